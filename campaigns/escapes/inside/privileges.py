"""Attempts to become more than an unprivileged user."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from pathlib import Path

from campaigns.escapes.inside.looking import Attempt, Target, pids
from tasks.sandbox.probe import LIBC

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
KEYCTL_SEARCH, KEYCTL_READ, SESSION_KEYRING = 10, 11, -3


def become_root(_target: Target) -> str:
    os.setuid(0)
    return "uid 0"


def give_to_root(_target: Target) -> str:
    Path("given").touch()
    os.chown("given", 0, 0)
    return "owned by root"


def file_capability(_target: Target) -> str:
    Path("capable").touch()
    every = struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0, 0)
    os.setxattr("capable", "security.capability", every)
    return "all capabilities"


def trusted_attribute(_target: Target) -> str:
    Path("trusted").touch()
    os.setxattr("trusted", "trusted.overlay.redirect", b"/etc")
    return "trusted.overlay.redirect"


def other_namespaces(_target: Target) -> str:
    kinds = (CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET)
    return " ".join(f"{kind:x}" for kind in kinds if LIBC.unshare(kind) == 0)


def namespaces_of_processes(_target: Target) -> str:
    for pid in pids():
        for name in ("net", "mnt", "uts"):
            try:
                fd = os.open(pid / "ns" / name, os.O_RDONLY)
            except OSError:
                continue
            if LIBC.setns(fd, 0) == 0:
                return f"{pid}/ns/{name}"
    return ""


def leave_shared_mounts() -> None:
    """See that nothing which is mounted below reaches anybody else. Raises OSError."""
    if LIBC.unshare(CLONE_NEWNS) == 0 and LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError("the mounts stay shared")


def mount_something(_target: Target) -> str:
    Path("mounted").mkdir()
    leave_shared_mounts()
    return "tmpfs" if LIBC.mount(b"none", b"mounted", b"tmpfs", 0, None) == 0 else ""


def bind_something(_target: Target) -> str:
    Path("bound").mkdir()
    leave_shared_mounts()
    return "bound" if LIBC.mount(b"/usr", b"bound", None, MS_BIND, None) == 0 else ""


def unmount_something(_target: Target) -> str:
    leave_shared_mounts()
    return "/proc" if LIBC.umount2(b"/proc", MNT_DETACH) == 0 else ""


def change_root(_target: Target) -> str:
    os.chroot(".")
    return "changed"


def raise_limits(_target: Target) -> str:
    kinds = (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)
    for kind in kinds:
        soft, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            try:
                resource.setrlimit(kind, (soft, hard + 1))
            except (OSError, ValueError):
                continue
            return f"limit {kind}"
    return ""


def raise_priority(_target: Target) -> str:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, before - 5)
    return f"nice {before - 5} instead of {before}"


def escape_the_memory_killer(_target: Target) -> str:
    Path("/proc/self/oom_score_adj").write_text("-500")
    return "-500"


def session_key(target: Target) -> str:
    """Read a key that the worker's session keyring holds."""
    call = ctypes.c_long(target["calls"]["keyctl"])
    text = target["key"].encode()
    number = LIBC.syscall(
        call, KEYCTL_SEARCH, ctypes.c_long(SESSION_KEYRING), b"user", text, ctypes.c_long(0)
    )
    content = ctypes.create_string_buffer(512)
    LIBC.syscall(call, KEYCTL_READ, ctypes.c_long(number), content, ctypes.c_long(512))
    return "read" if target["canary"].encode() in content.raw else ""


ATTEMPTS: list[Attempt] = [
    become_root, give_to_root, file_capability, trusted_attribute, other_namespaces,
    namespaces_of_processes, mount_something, bind_something, unmount_something, change_root,
    raise_limits, raise_priority, escape_the_memory_killer, session_key,
]  # fmt: skip
