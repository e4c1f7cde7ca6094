"""What an attacker would want, set out on the host: canaries, sockets, processes, files, a key.

Every canary begins with the same mark, which the attempts look for; only the whole of one is a
secret, and the attempts never learn it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.sandbox.seccomp import MACHINES
from tasks.sandbox.selftest import refused_calls

PROCESSES = 64
MORE_CALLS = (
    "request_key", "fanotify_init", "kcmp", "process_vm_writev", "process_madvise", "move_mount",
    "mount_setattr", "open_tree", "fspick", "pivot_root", "swapon", "finit_module", "clock_settime",
)  # fmt: skip
JOIN_SESSION_KEYRING = 1
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Canaries:
    """Secrets by what they stand for; ``mark`` is what all of them begin with."""

    mark: str = field(default_factory=lambda: f"kanari{secrets.token_hex(4)}")
    sentinel: str = field(default_factory=lambda: f"sentinel-{secrets.token_hex(8)}")
    """No secret: a scene hands it back, so that the search for canaries has something to find."""
    secrets: dict[str, str] = field(default_factory=dict)

    def new(self, kind: str) -> str:
        self.secrets[kind] = f"{self.mark}-{kind.replace(' ', '-')}-{secrets.token_hex(12)}"
        return self.secrets[kind]

    def found_in(self, text: bytes, *, but: str = "") -> list[str]:
        """Return what the canaries in a text stand for, but those whose name begins with ``but``."""
        return [
            kind
            for kind, secret in self.secrets.items()
            if secret.encode() in text and not (but and kind.startswith(but))
        ]


@dataclass
class Bait:
    """The traps of one campaign. ``target`` is what the attempts are told of them."""

    folder: Path
    target: dict[str, Any]
    touched: list[str] = field(default_factory=list)
    """Whoever reached a trap's socket, by the trap's name."""

    def digest(self) -> str:
        """Return what the host's tree looks like now: names, modes and contents."""
        found = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            info = path.lstat()
            found.update(f"{path} {info.st_mode} {info.st_uid} {info.st_nlink}\n".encode())
            if path.is_file() and not path.is_symlink():
                found.update(path.read_bytes())
        return found.hexdigest()


@contextlib.contextmanager
def set_out(folder: Path, canaries: Canaries, *, uid: int) -> Iterator[Bait]:
    """Set the traps for the block. ``uid`` is whom the sandboxes' processes belong to."""
    folder.mkdir()
    folder.chmod(0o777)
    secret = folder / "secret"
    secret.write_text(canaries.new("host file"))
    secret.chmod(0o644)
    bait = Bait(folder, {})
    with contextlib.ExitStack() as stack:
        ports = {
            "port": _tcp(stack, bait, "tcp", socket.AF_INET),
            "port6": _tcp(stack, bait, "tcp6", socket.AF_INET6),
            "udp": _udp(stack, bait),
        }
        abstract = f"asynccoder-{canaries.mark}"
        _unix(stack, bait, "abstract", "\0" + abstract)
        _unix(stack, bait, "path", str(folder / "socket"))
        key = _session_key(canaries)
        victim = _process(stack, canaries, uid)
        decoy, spare = (_process(stack, canaries, os.geteuid()) for _ in range(2))
        bait.target = ports | {
            "canary": canaries.mark,
            "file": str(secret),
            "folder": str(folder),
            "abstract": abstract,
            "socket": str(folder / "socket"),
            "victim": victim,
            "decoy": decoy,
            "spare": spare,
            "first": 1,
            "processes": PROCESSES,
            "calls": calls(),
            "key": key,
            "hostname": os.uname().nodename,
            "readable": "/usr/bin/env",
            "toolchain": [f"{sys.prefix}/bin", f"{sys.base_prefix}/lib"],
        }
        yield bait


def calls() -> dict[str, int]:
    machine = MACHINES[platform.machine()]
    numbers = {**machine.denied, **machine.everywhere}
    return refused_calls() | {name: numbers[name] for name in MORE_CALLS}


def _process(stack: contextlib.ExitStack, canaries: Canaries, uid: int) -> int:
    """Start a process whose environment and arguments hold a secret, as the sandboxes' user."""
    secret = canaries.secrets.get("process") or canaries.new("process")
    process = subprocess.Popen(
        ["sh", "-c", "read _", secret],
        env={"SECRET": secret, "PATH": os.defpath},
        stdin=subprocess.PIPE,
        user=uid if os.geteuid() == 0 else None,
    )
    stack.enter_context(process)
    stack.callback(process.kill)
    return process.pid


def _tcp(stack: contextlib.ExitStack, bait: Bait, name: str, family: int) -> int:
    address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    try:
        server = stack.enter_context(socket.create_server((address, 0), family=family))
    except OSError:
        # A machine without IPv6: nothing can be reached there.
        return 9
    _accept(bait, name, server)
    return int(server.getsockname()[1])


def _unix(stack: contextlib.ExitStack, bait: Bait, name: str, address: str) -> None:
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(address)
    server.listen()
    if not address.startswith("\0"):
        Path(address).chmod(0o777)
    _accept(bait, name, server)


def _accept(bait: Bait, name: str, server: socket.socket) -> None:
    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                server.accept()[0].close()
                bait.touched.append(name)

    threading.Thread(target=serve, daemon=True).start()


def _udp(stack: contextlib.ExitStack, bait: Bait) -> int:
    server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                message, sender = server.recvfrom(2000)
                bait.touched.append("udp")
                server.sendto(message, sender)

    threading.Thread(target=serve, daemon=True).start()
    return int(server.getsockname()[1])


def _session_key(canaries: Canaries) -> str:
    """Put a key into a session keyring that every process we start inherits; return its name."""
    numbers = MACHINES[platform.machine()].denied
    name, secret = f"key-{canaries.mark}", canaries.new("session key").encode()
    join = ctypes.c_long(JOIN_SESSION_KEYRING)
    if LIBC.syscall(ctypes.c_long(numbers["keyctl"]), join, None) >= 0:
        LIBC.syscall(
            ctypes.c_long(numbers["add_key"]), b"user", name.encode(), secret,
            ctypes.c_long(len(secret)), ctypes.c_long(-3),
        )  # fmt: skip
    return name
