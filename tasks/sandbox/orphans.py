"""Which bubblewrap processes are ours, whose they are, and ending those whose owner is gone.

The mark is an argument on bubblewrap's own command line: ``asynccoder-sandbox:<pid namespace>:
<owner's pid>:<owner's start time>``. It needs no file, so there is no moment without it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

PREFIX = "asynccoder-sandbox"
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told apart from later ones with the same pid by when it started."""

    namespace: int
    pid: int
    started: int

    @classmethod
    def this_process(cls) -> Owner:
        return cls(_namespace(), os.getpid(), _start_time(os.getpid()))

    @property
    def marker(self) -> str:
        return f"{PREFIX}:{self.namespace}:{self.pid}:{self.started}"

    def is_gone(self) -> bool:
        """Tell whether it no longer runs; one of another pid namespace is never said to be."""
        if self.namespace != _namespace():
            return False
        return _start_time(self.pid) != self.started


def reap_orphans() -> int:
    """Kill every sandbox of this machine whose owner is gone; return how many processes.

    A worker calls it at its start: a kill -9 at the wrong moment can leave a bubblewrap that
    waits for ever in its set-up (no tenant's code runs in it).
    """
    return sum(_kill_if_orphan(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())


def owned_by(owner: Owner) -> list[int]:
    """Return the pids of the processes that carry the owner's mark."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _owner_of(pid) == owner]


def _kill_if_orphan(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Looked at after the handle is open: a pid that is used anew cannot be hit.
        owner = _owner_of(pid)
        if owner is None or not owner.is_gone():
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(handle)


def _owner_of(pid: int) -> Owner | None:
    try:
        arguments = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    for argument in arguments:
        parts = argument.split(b":")
        if parts[0] == PREFIX.encode() and len(parts) == 4 and all(p.isdigit() for p in parts[1:]):
            return Owner(*(int(part) for part in parts[1:]))
    return None


def _namespace() -> int:
    return (PROC / "self/ns/pid").stat().st_ino


def _start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 for a dead or unknown one."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
