"""Memory and disk of a whole sandbox, watched from outside: per-process limits do not cap sums.

The host looks through the sandbox's own /proc, so it sees its processes and no others, and what
it counts cannot be forged inside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tasks.sandbox.base import Limits

MEMORY_EVERY = 0.25
DISK_EVERY = 2.0
BLOCK = 512
INODE_COST = 4096
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Say when a sandbox uses more memory or disk than it may.

    ``process`` is the pid of its init, here. Raises OSError where its /proc cannot be opened.
    """

    def __init__(self, process: int, limits: Limits, written: Path | None) -> None:
        self._proc = os.open(
            f"/proc/{process}/root/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
        self._limits = limits
        self._written = written
        self._memory_due = self._disk_due = self._disk_looked = 0.0
        self._disk_pause = DISK_EVERY
        self._disk_allowed = limits.disk
        self._most_free = 0
        if written is not None:
            self._most_free = free_bytes(written)

    def close(self) -> None:
        os.close(self._proc)

    def start(self) -> None:
        """Begin with a command: it has a full interval to clean up an overfull disk."""
        now = time.monotonic()
        self._memory_due, self._disk_due = now + MEMORY_EVERY / 2, now + self._disk_pause

    def finish(self) -> str:
        """Return what ``look`` would, after a command that may have been too quick for it."""
        is_due = time.monotonic() - self._disk_looked >= self._disk_pause
        return self.look_at_disk() if is_due else ""

    def allow_existing(self) -> None:
        """Count the disk from what is there now (a private copy instead of an overlay)."""
        if self._written is not None:
            with contextlib.suppress(TooDeep):  # the first look will say so
                self._disk_allowed += tree_bytes(self._written, stop_at=2**62)[0]

    def wait(self) -> float:
        """Return the seconds until the next look."""
        due = min(self._memory_due, self._disk_due) if self._written else self._memory_due
        return max(0.0, due - time.monotonic())

    def look(self) -> str:
        """Return "memory" or "disk" where that limit is passed, else "" (also between looks)."""
        now = time.monotonic()
        if now >= self._memory_due:
            over = memory_bytes(self._proc, self._limits.memory) > self._limits.memory
            self._memory_due = time.monotonic() + MEMORY_EVERY
            if over:
                return "memory"
        if self._written and now >= self._disk_due:
            return self.look_at_disk()
        return ""

    def look_at_disk(self) -> str:
        """Return "disk" where the written tree, or what it hides, is larger than allowed."""
        if self._written is None:
            return ""
        began = time.monotonic()
        try:
            used, is_blind = tree_bytes(self._written, stop_at=self._disk_allowed)
        except TooDeep:
            return "disk"
        if used <= self._disk_allowed:
            used += unlinked_bytes(self._proc)
        is_short = self._is_room_short()
        if is_blind and is_short:
            # What was hidden from view is taken for what the file system lost.
            used += self._disk_allowed
        # A large tree is looked at more rarely, so that looking stays a tenth of the time.
        self._disk_looked = time.monotonic()
        self._disk_pause = max(DISK_EVERY, 10 * (self._disk_looked - began))
        self._disk_due = self._disk_looked + self._disk_pause
        return "disk" if used > self._disk_allowed else ""

    def _is_room_short(self) -> bool:
        """Tell whether the file system lost more room than this sandbox may have taken.

        It is compared with the most that was ever free: others give room back meanwhile.
        """
        if self._written is None:
            return False
        free = free_bytes(self._written)
        self._most_free = max(self._most_free, free)
        return self._most_free - free > self._limits.disk


class TooDeep(Exception):
    """A tree is deeper than a path may be long: its end can be listed by nobody, nor kept."""


def free_bytes(path: Path) -> int:
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize


def tree_bytes(folder: Path, *, stop_at: int) -> tuple[int, bool]:
    """Return the room that a hostile tree takes on disk, and whether a part could not be seen.

    It follows no link, counts each inode, and looks at no more files than ``stop_at`` has room for.
    Raises TooDeep.
    """
    total, is_blind = 0, False
    root = str(folder.resolve())
    waiting = [root]
    while waiting and total <= stop_at:
        path = waiting.pop()
        try:
            with listed(path, root) as entries:
                for entry in entries:
                    total += _entry_bytes(entry)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{path}/{entry.name}")
                    if total > stop_at:
                        break
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise TooDeep from error
            # Without permission; a vanished one is no secret.
            is_blind = is_blind or error.errno not in GONE
    return total, is_blind


@contextlib.contextmanager
def listed(path: str, root: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """List a folder that a tenant may be replacing by a link to somewhere else right now."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        real = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 (a magic link, not a path)
        if real != root and not real.startswith(f"{root}/"):
            raise FileNotFoundError(errno.ENOENT, "moved out of the tree", path)
        with os.scandir(fd) as entries:
            yield entries
    finally:
        os.close(fd)


def _entry_bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * BLOCK + INODE_COST
    except OSError:
        return INODE_COST


def unlinked_bytes(proc: int) -> int:
    """Return the room of files that a sandbox's processes hold open without a name."""
    seen: dict[tuple[int, int], int] = {}
    for pid in _pids(proc):
        with contextlib.suppress(OSError):
            folder = os.open(f"{pid}/fd", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
            try:
                for name in os.listdir(folder):  # noqa: PTH208 (by descriptor)
                    with contextlib.suppress(OSError):
                        info = os.stat(name, dir_fd=folder)
                        if info.st_nlink == 0:
                            seen[info.st_dev, info.st_ino] = info.st_blocks * BLOCK
            finally:
                os.close(folder)
    return sum(seen.values())


def memory_bytes(proc: int, limit: int) -> int:
    """Return what a sandbox's processes hold in memory; exact only near or above ``limit``."""
    pids = _pids(proc)
    pages = [_statm(proc, pid) for pid in pids]
    reserved = sum(size for size, _ in pages) * PAGE
    resident = sum(held for _, held in pages) * PAGE
    if reserved <= limit:
        return resident
    # Shared memory that was written and then let go of (MADV_DONTNEED) is nobody's resident set.
    hidden = _shared_bytes(proc, pids)
    if resident <= limit:
        return max(resident, hidden)
    private, shared = _proportional(proc, pids)
    return private + max(shared, hidden)


def _pids(proc: int) -> list[str]:
    # The init (1) is the platform's own.
    return [name for name in os.listdir(proc) if name.isdigit() and name != "1"]


def _read(proc: int, path: str) -> str:
    """Return a file of a process, or nothing once the process is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _statm(proc: int, pid: str) -> tuple[int, int]:
    fields = _read(proc, f"{pid}/statm").split()
    return (int(fields[0]), int(fields[1])) if len(fields) > 1 else (0, 0)


def _proportional(proc: int, pids: list[str]) -> tuple[int, int]:
    """Return (anonymous, shared) bytes; files that are only mapped cost nothing and are left out."""
    anonymous = shared = 0
    for pid in pids:
        for line in _read(proc, f"{pid}/smaps_rollup").splitlines():
            name, _, value = line.partition(":")
            if name == "Pss_Anon":
                anonymous += int(value.split()[0]) * 1024
            elif name == "Pss_Shmem":
                shared += int(value.split()[0]) * 1024
    return anonymous, shared


def _shared_bytes(proc: int, pids: list[str]) -> int:
    """Return the size of all shared memory without a name, each piece once."""
    ends: dict[str, int] = {}
    for pid in pids:
        for line in _read(proc, f"{pid}/maps").splitlines():
            if not line.endswith("(deleted)"):
                continue
            span, mode, offset, device, inode = line.split(maxsplit=5)[:5]
            if mode.endswith("s"):
                low, _, high = span.partition("-")
                key = f"{device}:{inode}"
                ends[key] = max(ends.get(key, 0), int(offset, 16) + int(high, 16) - int(low, 16))
    return sum(ends.values())
