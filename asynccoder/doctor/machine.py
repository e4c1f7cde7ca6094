"""The machine: Python, git, programs, folders and room."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage

from asynccoder.doctor.findings import Finding, failed, ok, warning
from asynccoder.launcher import preflight
from asynccoder.launcher.preflight import NotReady
from repositories.git.command import git_program
from repositories.git.errors import GitMissing
from tasks.sandbox.toolchain import Toolchain

NEEDED = ("bash", "git", "rg")
USEFUL = ("ruff", "bandit", "lizard", "mypy", "coverage", "pytest")
"""Analysers and checks: without one of them, tasks go on and say what they could not do."""
INODES_FAILED, INODES_WARNING = 10_000, 100_000
IN_MEMORY = {"tmpfs", "ramfs"}
NETWORKED = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs", "lustre"}
GIB = 1024**3


def check_python() -> Iterator[Finding]:
    try:
        preflight.check_python(sys.version_info[:2])
    except NotReady as reason:
        yield failed(str(reason))
    else:
        yield ok(f"Python {sys.version.split()[0]}")


def check_git() -> Iterator[Finding]:
    try:
        preflight.check_git()
        git_program()
    except NotReady as reason:
        yield failed(str(reason))
    except GitMissing as error:
        yield failed(f"{error} Install a newer one.")
    else:
        yield ok("new enough")


def check_programs() -> Iterator[Finding]:
    """Look for what runs inside a sandbox, on the path that it has there."""
    path = os.pathsep.join(Toolchain.of_platform().path)
    missing = [name for name in (*NEEDED, *USEFUL) if shutil.which(name, path=path) is None]
    for name in missing:
        if name in NEEDED:
            yield failed(f"{name} is missing inside sandboxes: install it on this machine.")
        else:
            yield warning(f"{name} is missing inside sandboxes: analyses and checks do without it.")
    if not missing:
        yield ok(", ".join((*NEEDED, *USEFUL)))


def check_var_dir() -> Iterator[Finding]:
    folder = Path(settings.VAR_DIR)
    try:
        preflight.check_var_dir(folder)
    except NotReady as reason:
        yield failed(str(reason))
        return
    kind = file_system(folder)
    if kind in IN_MEMORY:
        yield warning(f"VAR_DIR lies in memory ({kind}): a restart of the machine empties it.")
    elif kind == "overlay":
        yield warning("VAR_DIR lies on an image's overlay: put it on a volume, or a new container"
                      " starts empty and every run copies its repository.")  # fmt: skip
    else:
        yield ok(f"{folder} ({kind or 'unknown file system'})")


def check_disk() -> Iterator[Finding]:
    """Look at the room where tasks work and where files are kept."""
    folders = {"VAR_DIR": Path(settings.VAR_DIR)}
    if isinstance(default_storage, FileSystemStorage) or hasattr(default_storage, "location"):
        folders["file storage"] = Path(default_storage.location)
    seen: set[int] = set()
    for name, folder in folders.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if there.stat().st_dev not in seen:
            seen.add(there.stat().st_dev)
            yield judge_room(name, os.statvfs(there))


def judge_room(name: str, found: os.statvfs_result) -> Finding:
    """Compare the free room with what one run, and what every slot, may write."""
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    one, all_slots = (
        settings.SANDBOX_DISK_BYTES,
        settings.SANDBOX_DISK_BYTES * settings.WORKER_SLOTS,
    )
    has_inodes = found.f_files > 0
    said = f"{name} has {free / GIB:.1f} GiB" + (f" and {inodes:,} inodes" if has_inodes else "")
    if free < one or (has_inodes and inodes < INODES_FAILED):
        return failed(f"{said} free, less than one run may need: make room.")
    if free < all_slots or (has_inodes and inodes < INODES_WARNING):
        return warning(f"{said} free, less than {settings.WORKER_SLOTS} runs may need: make room.")
    return ok(f"{said} free")


def file_system(folder: Path) -> str:
    """Return the type of the file system that holds a folder, or "" where nobody says."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return ""
    best, found = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        # Blanks and such are written as octal numbers there.
        point = Path(left.split()[4].encode().decode("unicode_escape"))
        if folder.resolve().is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), right.split()[0]
    return found
