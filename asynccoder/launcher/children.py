"""The launcher's processes: started, started again when they die, and ended with it.

A child that loses the launcher, even by kill -9, gets SIGTERM from the kernel (PR_SET_PDEATHSIG),
and what a child leaves behind comes to the launcher (PR_SET_CHILD_SUBREAPER) and is ended there.
Both are Linux's; elsewhere the ends of Ctrl-C and SIGTERM are the same, those of kill -9 are not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
RESTART_SECONDS_MAX = 30.0
STEADY_SECONDS = 60
"""A child that ran this long starts again at once when it dies."""
PATIENCE_SECONDS = 1.0
HURRY_SECONDS = 5.0
LOG_BYTES_MAX = 10 * 1024**2

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Become the parent of every process that a descendant leaves behind."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _die_with(parent: int) -> None:
    """Run in the child before its program: end it when the launcher ends, also just now."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def start(
    argv: list[str], *, environment: dict[str, str], output: int | None
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own; ``output`` None is the launcher's terminal."""
    parent = os.getpid()
    return subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
        # The launcher has one thread, so running Python between fork and exec is safe.
        preexec_fn=lambda: _die_with(parent),  # see above
    )


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether the process has ended, without reaping it: its number stays taken."""
    how = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return process.returncode is not None or os.waitid(os.P_PID, process.pid, how) is not None


def end(process: subprocess.Popen[bytes], *, seconds: float) -> int:
    """Ask the process to end, wait, then kill its whole group; return its status.

    The group is killed before the process is reaped: afterwards the number may be another's.
    """
    if process.returncode is None:
        ask_to_end(process)
        limit = time.monotonic() + seconds
        while not has_ended(process) and time.monotonic() < limit:
            time.sleep(0.02)
    return kill(process)


def ask_to_end(process: subprocess.Popen[bytes]) -> None:
    if not has_ended(process):
        process.terminate()


def kill(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left of the process's group and return its status."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def orphans(known: set[int]) -> list[int]:
    """Return the ids of the launcher's children that it did not start itself."""
    found: list[int] = []
    for listing in Path("/proc/self/task").glob("*/children"):
        found += [int(word) for word in listing.read_text().split()]
    return [pid for pid in found if pid not in known]


def reap(known: set[int]) -> None:
    """Take the exit status of adopted orphans that have ended."""
    for pid in orphans(known):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def end_orphans() -> None:
    """Kill whatever is left; an orphan's own children come next, so look until none are."""
    while found := orphans(set()):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def describe_end(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode}"


@dataclass
class Child:
    """One process that must always run."""

    name: str
    argv: list[str]
    log: Path
    environment: dict[str, str]
    end_seconds: float = 10
    slow_end: str = ""
    """What to tell a person who waits for its end."""
    failures: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _started_at: float = 0
    _start_after: float = 0

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = start(self.argv, environment=self.environment, output=output.fileno())
        self._started_at = time.monotonic()

    def tend(self) -> str | None:
        """Start the process when it is due; return one line when it has just died."""
        if self.process is None:
            if time.monotonic() >= self._start_after:
                self.start()
            return None
        if not has_ended(self.process):
            self._limit_log()
            return None
        returncode = end(self.process, seconds=0)
        self.process = None
        return self._note_death(returncode)

    def _note_death(self, returncode: int) -> str:
        is_steady = time.monotonic() - self._started_at >= STEADY_SECONDS
        self.failures = 1 if is_steady else self.failures + 1
        wait = min(2.0 ** (self.failures - 1) - 1, RESTART_SECONDS_MAX)
        self._start_after = time.monotonic() + wait
        again = f"in {wait:.0f} s" if wait else "now"
        return f"{self.name} {describe_end(returncode)}; starting it again {again} ({self.log})"

    def _limit_log(self) -> None:
        # The child appends, so that after the cut it goes on at the new end.
        if self.log.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def end(
        self,
        *,
        asked: Callable[[], int] = lambda: 1,
        say: Callable[[str], None] = lambda words: None,
    ) -> None:
        """End the process; each time that ``asked`` has grown meanwhile, ask it again and hurry."""
        if self.process is None:
            return
        times = min(asked(), 1)
        began, limit, words = time.monotonic(), self.end_seconds, self.slow_end
        ask_to_end(self.process)
        while not has_ended(self.process) and time.monotonic() - began < limit:
            if words and time.monotonic() - began > PATIENCE_SECONDS:
                say(words)
                words = ""
            if asked() > times:
                times, words = asked(), ""
                limit = min(limit, time.monotonic() - began + HURRY_SECONDS)
                ask_to_end(self.process)
            time.sleep(0.02)
        kill(self.process)
        self.process = None

    def last_lines(self, lines: int = 15) -> list[str]:
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 8192))
            return file.read().decode(errors="replace").splitlines()[-lines:]
