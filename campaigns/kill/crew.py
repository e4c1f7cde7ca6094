"""The workers of the campaign, their processes, and killing them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from django.conf import settings

from asynccoder import redis_server
from asynccoder.tests.processes import Process, answers, launch, wait_for
from campaigns.stage import Stage

PROC = Path("/proc")


@dataclass(frozen=True)
class Processes:
    """What ran at one moment: parent and start time by process id."""

    parents: dict[int, int]
    started: dict[int, int]

    @classmethod
    def now(cls) -> Processes:
        parents, started = {}, {}
        for pid in (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()):
            if fields := _stat(pid):
                parents[pid], started[pid] = int(fields[1]), int(fields[19])
        return cls(parents, started)

    def below(self, pid: int) -> set[int]:
        found: set[int] = set()
        waiting = [pid]
        while waiting:
            parent = waiting.pop()
            children = {child for child, its in self.parents.items() if its == parent} - found
            found |= children
            waiting += children
        return found

    def children(self, pid: int) -> list[int]:
        return sorted(child for child, parent in self.parents.items() if parent == pid)

    def with_words(self, words: str) -> list[int]:
        return [pid for pid in self.parents if words in command_line(pid)]

    def is_below(self, pid: int, words: str) -> bool:
        """Tell whether a process or one above it has these words in its command line."""
        while pid > 1:
            if words in command_line(pid):
                return True
            pid = self.parents.get(pid, 0)
        return False

    def is_alive(self, pid: int) -> bool:
        """Tell whether the process of that moment still runs (a zombie does not)."""
        fields = _stat(pid)
        return bool(fields) and int(fields[19]) == self.started.get(pid)


def _stat(pid: int) -> list[str]:
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


def command_line(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@dataclass
class Crew:
    """Supervisors with their workers. ``environment`` is what they are started with."""

    stage: Stage
    environment: dict[str, str]
    supervisors: list[Process] = field(default_factory=list)

    def start(self, workers: int) -> None:
        self.supervisors += [self.stage.worker(**self.environment) for _ in range(workers)]

    def end(self) -> None:
        for supervisor in self.supervisors:
            supervisor.end()
        self.supervisors.clear()

    def aim(self, target: str, worker: int, task_id: str) -> Aim | None:
        """Find what is named by ``target`` for the run of a task; None if there is no such run."""
        there = Processes.now()
        server = next((pid for pid in there.children(worker) if there.children(pid)), 0)
        run = _run_of(there, server, task_id)
        if not run:
            return None
        above = {"run": run, "fork server": server, "worker": worker}
        pid = above.get(target) or there.parents[worker]
        dies = {run} if target == "run" else {pid, *there.children(server)}
        if target == "fork server":
            # The worker is of no use without it and ends itself.
            return Aim(target, there, pid, dies, {worker, *there.below(pid)})
        return Aim(target, there, pid, dies, there.below(pid))

    def fire(self, aim: Aim) -> Hit:
        """Kill what was aimed at, wait until it is dead, and start what nobody else would."""
        if aim.target == "machine":
            return self._hit_everything(Processes.now())
        hit = Hit(aim.there, {aim.pid} | aim.must_end)
        _kill([aim.pid])
        hit.wait_for(aim.dies)
        if aim.target == "supervisor":
            self._replace(aim.pid)
        return hit

    def _hit_everything(self, there: Processes) -> Hit:
        below = {pid for process in self.supervisors for pid in there.below(process.pid)}
        pids = [process.pid for process in self.supervisors]
        count, hit = len(pids), Hit(there, below | set(pids))
        with _embedded_redis(self.stage) as server:
            _kill([*pids, *server, *below])
            hit.wait_for(hit.must_end)
        for pid in pids:
            self._forget(pid)
        self.start(count)
        return hit

    def _replace(self, pid: int) -> None:
        self._forget(pid)
        self.start(1)

    def _forget(self, pid: int) -> None:
        gone = next(process for process in self.supervisors if process.pid == pid)
        gone.popen.wait(60)
        self.supervisors.remove(gone)


@dataclass(frozen=True)
class Aim:
    """What is to be killed; ``dies`` is what dies of it at once, ``must_end`` all that may not stay."""

    target: str
    there: Processes
    pid: int
    dies: set[int]
    must_end: set[int]


@dataclass
class Hit:
    """What was there when something was killed, and what must end because of it."""

    there: Processes
    must_end: set[int]
    at: float = field(default_factory=time.time)

    def wait_for(self, pids: Iterable[int]) -> None:
        """Wait until these processes are dead; AssertionError when one lives on."""
        wait_for(lambda: not any(map(self.there.is_alive, pids)), what="what was killed is dead")

    def left(self, *, seconds: float) -> list[str]:
        """Return the command lines of what still runs after so many seconds."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self._alive(), seconds=seconds)
        return [command_line(pid).replace("\0", " ")[:200] for pid in self._alive()]

    def _alive(self) -> list[int]:
        return [pid for pid in self.must_end if self.there.is_alive(pid)]


def _run_of(there: Processes, server: int, task_id: str) -> int:
    """Return the run's process: the one whose sandbox or git knows the task, or the only one."""
    runs = there.children(server) if server else []
    for run in runs:
        if any(f"/{task_id}/" in command_line(pid) for pid in there.below(run)):
            return run
    return runs[0] if len(runs) == 1 else 0


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _embedded_redis(stage: Stage) -> Iterator[list[int]]:
    """Give the process of the stage's own Redis, and start another when the block is left.

    One that was named on the command line belongs to somebody else and is left alone.
    """
    folder = stage.folder / "redis"
    if redis_server.url(folder) != settings.REDIS_URL:
        yield []
        return
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        pid = int(client.info("server")["process_id"])
    yield [pid]
    log = stage.folder / "logs" / f"redis-{time.monotonic_ns()}.log"
    stage.processes.append(launch(redis_server.command(folder), stage.environment, log))
    wait_for(lambda: answers(settings.REDIS_URL), what="Redis answers again")
