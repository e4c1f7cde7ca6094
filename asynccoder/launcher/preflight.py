"""What must be true before anything is started; each failure is one clear line."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from asynccoder import redis_server
from asynccoder.launcher.options import Options
from tasks.sandbox.base import Command, SandboxLost, SandboxUnavailable, Workspace
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import prepare_owned
from tasks.sandbox.toolchain import Toolchain

PYTHON_MIN = (3, 11)
PORT_MAX = 65_535


class NotReady(Exception):
    """Something is missing or in the way; the message is one line that says what to do."""


def check_machine(options: Options) -> None:
    """Raise NotReady for the first thing that this machine lacks."""
    check_python(sys.version_info[:2])
    check_git()
    check_var_dir(options.var_dir)


def check_surroundings(options: Options) -> str:
    """Raise NotReady for the first thing that is in the way; call it with the lock held.

    Return why no task can run here ("" where they can): pages and API work without a sandbox.
    """
    check_port(options.host, options.port)
    check_redis(options.redis_url)
    try:
        check_sandbox(options.var_dir)
    except NotReady as reason:
        return str(reason)
    return ""


def check_python(version: tuple[int, ...]) -> None:
    if version < PYTHON_MIN:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, PYTHON_MIN))
        raise NotReady(f"Python {found} is too old: install Python {needed} or newer.")


def check_git() -> None:
    if shutil.which("git") is None:
        raise NotReady("git is missing: install the package git.")


def check_var_dir(var_dir: Path) -> None:
    try:
        var_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=var_dir):
            pass
    except OSError as error:
        raise NotReady(
            f"{var_dir} cannot be written ({error.strerror}): set VAR_DIR to a folder that can."
        ) from None


def check_port(host: str, port: int) -> None:
    """Bind the port for a moment, as the web server will."""
    if not 0 < port <= PORT_MAX:
        raise NotReady(f"PORT={port} is no port: choose one up to {PORT_MAX}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise NotReady(
            f"{host}:{port} cannot be used ({error.strerror}): choose another port, as in PORT=8001."
        ) from None


def check_redis(url: str) -> None:
    """Ask the named Redis, or find the one to start."""
    try:
        if url:
            with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
                client.ping()
        else:
            redis_server.binary()
    except (redis.RedisError, ValueError) as error:
        # The message of redis-py may hold the address with its password.
        raise NotReady(
            f"the Redis that REDIS_URL names does not answer ({type(error).__name__})."
        ) from None
    except redis_server.RedisMissing as error:
        raise NotReady(str(error)) from None


def check_sandbox(var_dir: Path) -> None:
    """Run one command in a sandbox; the worker's own self-test, later, attacks one."""
    base = prepare_owned(var_dir / "preflight")
    try:
        workspace = Workspace(base=base, read_only=True)
        with Bubblewrap(workspace, toolchain=Toolchain.of_platform()) as sandbox:
            sandbox.run(Command(["true"]))
    except (SandboxUnavailable, SandboxLost) as error:
        raise NotReady(f"no sandbox can be made: {error}.") from None
    finally:
        base.rmdir()


@contextmanager
def only_one(var_dir: Path) -> Iterator[None]:
    """Hold the lock of this data folder; the kernel lets it go when the process ends."""
    with (var_dir / "launcher.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise NotReady(
                f"another instance (process {lock.read().strip() or '?'}) runs in {var_dir}:"
                " stop it, or set another VAR_DIR and PORT."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
