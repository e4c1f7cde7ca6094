"""Kill -9 at random moments of a run that leaves processes behind in every way it can."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from asynccoder.tests.processes import Process, descendants, wait_for
from campaigns.stage import Stage
from tasks.tests.test_sandbox_leftovers import marked, running

GONE_SECONDS = 30
LATEST = 0.6
"""Seconds after a run's process appears within which it is killed: its start, sandbox, command."""


def run_process(worker: Process) -> int:
    """Return the process of the one run that the worker has, or 0."""
    for pid in descendants(worker.pid):
        with contextlib.suppress(OSError):
            is_ours = b"manage.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
            if is_ours and os.getsid(pid) == pid:
                return pid
    return 0


def await_run(worker: Process) -> None:
    wait_for(lambda: run_process(worker), seconds=90, what="the run is taken up")


def started_at(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def is_alive(pid: int, started: str) -> bool:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0] not in "ZX" and fields[19] == started
    return False


def rounds(
    stage: Stage, start: Callable[[], Process], *, count: int, chance: random.Random
) -> tuple[list[str], Process]:
    """Kill the run, every seventh time its worker, at random moments.

    Returns what was left, and the worker that runs at the end. ``start`` starts a worker, which takes up the run.
    """
    left: list[str] = []
    worker = start()
    for number in range(count):
        await_run(worker)
        time.sleep(chance.uniform(0, LATEST))
        run = run_process(worker)
        victim = worker.pid if number % 7 == 6 else run
        if not victim:
            continue
        doomed = {pid: started_at(pid) for pid in {victim, *descendants(victim)}}
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if victim == worker.pid:
            worker.kill()
            worker = start()
        left += survivors(doomed, run)
        stage.progress(number + 1, count, "kills")
    return left, worker


def survivors(doomed: dict[int, str], owner: int) -> list[str]:
    """Wait until nothing of the killed is left; return what is left all the same."""

    def remaining() -> list[int]:
        old = [pid for pid, started in doomed.items() if started and is_alive(pid, started)]
        return [*old, *(marked(owner) if owner else [])]

    with contextlib.suppress(AssertionError):
        wait_for(lambda: not remaining(), seconds=GONE_SECONDS)
    return [f"process {pid} outlived kill -9 ({_arguments(pid)})" for pid in remaining()]


def a_process_outlives() -> bool:
    """The control: what a plain process started goes on when that is killed."""
    word = "9" * 9
    parent = subprocess.Popen(["sh", "-c", f"setsid sleep {word} & wait"])
    wait_for(lambda: running(f"sleep {word}"))
    parent.kill()
    parent.wait()
    left = running(f"sleep {word}")
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return bool(left)


def nothing_runs(word: str) -> bool:
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not running(f"sleep {word}"), seconds=GONE_SECONDS)
    return not running(f"sleep {word}")


def _arguments(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:80]
    return "gone"
