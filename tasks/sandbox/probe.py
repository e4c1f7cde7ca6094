"""Attacks on the sandbox, run inside it by the self-test; prints what got out, as JSON.

Each attack returns how it succeeded, or nothing. All are harmless where they do succeed: the
tests run them outside as well, for an attack that never fires proves nothing. Standard library
alone, and no import of the platform: the host sends this file as the program's standard input.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
TIOCSTI = 0x5412
REFUSED = (errno.EPERM, errno.ENOSYS)


def environment(target: dict[str, Any]) -> str:
    found = any(target["canary"] in value for value in os.environ.values())
    return "own environment" if found else ""


def environment_of_processes(target: dict[str, Any]) -> str:
    for path in Path("/proc").glob("[0-9]*/environ"):
        if target["canary"].encode() in _read(path):
            return str(path)
    return ""


def host_processes(_target: dict[str, Any]) -> str:
    seen = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return f"{len(seen)} processes visible" if len(seen) > 5 else ""


def signal_to_host(target: dict[str, Any]) -> str:
    os.kill(target["victim"], signal.SIGTERM)
    return f"signalled {target['victim']}"


def host_file(target: dict[str, Any]) -> str:
    return target["file"] if target["canary"] in Path(target["file"]).read_text() else ""


def write_outside(target: dict[str, Any]) -> str:
    path = Path(target["folder"], "written")
    path.write_text("escaped")
    return str(path)


def hard_link(target: dict[str, Any]) -> str:
    Path("linked").hardlink_to(target["file"])
    return "linked a file of the host"


def device_node(_target: dict[str, Any]) -> str:
    os.mknod("device", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
    return "made a block device"


def user_namespace(_target: dict[str, Any]) -> str:
    # In a child: outside a sandbox it succeeds and would change this process.
    return _in_child(lambda: LIBC.unshare(CLONE_NEWUSER) == 0)


def capabilities(_target: dict[str, Any]) -> str:
    status = _status()
    return f"CapEff {status['CapEff']}" if int(status["CapEff"], 16) else ""


def new_privileges(_target: dict[str, Any]) -> str:
    return "" if _status()["NoNewPrivs"] == "1" else "may gain privileges"


def unfiltered(_target: dict[str, Any]) -> str:
    return "" if _status()["Seccomp"] == "2" else "no system-call filter"


def loopback(target: dict[str, Any]) -> str:
    with socket.create_connection(("127.0.0.1", target["port"]), timeout=1):
        return f"reached 127.0.0.1:{target['port']}"


def interfaces(_target: dict[str, Any]) -> str:
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    return " ".join(names)


def abstract_socket(target: dict[str, Any]) -> str:
    return _connect_unix("\0" + target["abstract"])


def path_socket(target: dict[str, Any]) -> str:
    return _connect_unix(target["socket"])


def socket_families(_target: dict[str, Any]) -> str:
    kinds = {
        "NETLINK": (16, socket.SOCK_RAW),
        "VSOCK": (40, socket.SOCK_STREAM),
        "PACKET": (17, socket.SOCK_RAW),
        "ALG": (38, socket.SOCK_SEQPACKET),
    }
    made = [name for name, (family, kind) in kinds.items() if _can_make(family, kind)]
    return " ".join(made)


def inherited_file(target: dict[str, Any]) -> str:
    for fd in range(3, 256):
        try:
            if target["canary"].encode() in os.pread(fd, 4096, 0):
                return f"descriptor {fd}"
        except OSError:
            continue
    return ""


def terminal_injection(_target: dict[str, Any]) -> str:
    with Path(os.devnull).open() as null:
        result = LIBC.ioctl(null.fileno(), TIOCSTI, ctypes.byref(ctypes.c_char(b"x")))
    return "" if result == -1 and ctypes.get_errno() == errno.EPERM else "TIOCSTI is not refused"


def foreign_calls(_target: dict[str, Any]) -> str:
    """Ask by the 32-bit gate (int 0x80, getpid), whose numbers the filter does not know."""
    if platform.machine() != "x86_64":
        return ""
    # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    code = b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3"

    def call() -> bool:
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return bool(ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0)

    return _in_child(call)


def first_process(_target: dict[str, Any]) -> str:
    """Open the memory, descriptors or environment of PID 1, which has the same user inside."""
    for name in ("mem", "environ", "maps"):
        try:
            with Path("/proc/1", name).open("rb"):
                return f"/proc/1/{name}"
        except OSError:
            continue
    try:
        return " ".join(os.listdir("/proc/1/fd"))  # noqa: PTH208 (names alone)
    except OSError:
        return ""


def processes(target: dict[str, Any]) -> str:
    """Fork past the limit; every child waits to be killed."""
    children: list[int] = []
    try:
        while len(children) <= target["processes"]:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
    except OSError:
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return f"{len(children)} forks" if len(children) > target["processes"] else ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _connect_unix(address: str) -> str:
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(1)
        end.connect(address)
    return "connected"


def _can_make(family: int, kind: int) -> bool:
    try:
        socket.socket(family, kind).close()
    except OSError:
        return False
    return True


def _in_child(attack: Callable[[], bool]) -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if attack() else 1)
    return "succeeded" if os.waitpid(pid, 0)[1] == 0 else ""


def refused_call(number: int) -> Callable[[dict[str, Any]], str]:
    """Return an attack that makes one system call with empty arguments, in a child."""

    def attempt() -> bool:
        result = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(0) for _ in range(6)))
        return not (result == -1 and ctypes.get_errno() in REFUSED)

    return lambda _target: _in_child(attempt)


ATTACKS: dict[str, Callable[[dict[str, Any]], str]] = {
    attack.__name__: attack
    for attack in (
        environment, environment_of_processes, host_processes, signal_to_host, host_file,
        write_outside, hard_link, device_node, user_namespace, capabilities, new_privileges,
        unfiltered, loopback, interfaces, abstract_socket, path_socket, socket_families,
        inherited_file, terminal_injection, foreign_calls, first_process, processes,
    )
}  # fmt: skip


def attempt(attack: Callable[[dict[str, Any]], str], target: dict[str, Any]) -> str:
    """Return how an attack got out; an error of the system is a refusal."""
    try:
        return attack(target)
    except OSError:
        return ""


def main() -> None:
    target = json.loads(sys.argv[1])
    calls = {f"call_{name}": refused_call(number) for name, number in target["calls"].items()}
    found = {name: attempt(attack, target) for name, attack in {**ATTACKS, **calls}.items()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
