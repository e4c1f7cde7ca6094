"""A rolling deploy: two workers are stopped and started by turns while tasks keep coming.

Each restart is SIGTERM to a worker that has work, its end, and a new worker in its place; the
other one goes on meanwhile. Nothing may be lost, done or paid twice, or counted as lost. The
times of leases and sweeps are the defaults, so that whatever is not handed on would stand out.
"""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections

from accounts.models import User
from asynccoder.tests.processes import Process
from billing import ledger
from billing.models import LedgerEntry
from campaigns.report import Report
from campaigns.stage import Stage
from tasks.models import TERMINAL, Step, Task, WorkerHeartbeat
from tasks.tests.world import World, bash, build_world, finish

STEPS = 6
SCRIPT = [bash(f"echo line {n} >> notes.txt; sleep 0.{n % 4}") for n in range(STEPS)] + finish()
DIFF = [f"+line {n}" for n in range(STEPS)]
OPEN_TASKS = 6
"""Tasks that are not finished at any time: more than the two workers have slots."""
SLOTS = 2
LONGEST_THOUGHT = 3.0
END_SECONDS = 300.0
MARK = re.compile(r"deploy-task-(\d+)-")


@dataclass
class Worker:
    """A worker process and the name under which it holds leases."""

    process: Process
    name: str = ""


@dataclass
class Deploy:
    """The world, the two workers, and what was asked of them."""

    stage: Stage
    world: World
    chance: random.Random
    report: Report
    tasks: list[Task] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    stops: dict[str, list[float]] = field(default_factory=dict)
    """Seconds that each stop took, by what the worker's runs were at."""

    def start(self) -> Worker:
        """Start a worker and wait until it serves."""
        known = set(WorkerHeartbeat.objects.values_list("name", flat=True))
        process = self.stage.worker(**self.world.environment, WORKER_SLOTS=str(SLOTS))
        started = WorkerHeartbeat.objects.exclude(name__in=known)
        self.wait(lambda: started.exists() or process.popen.poll() is not None, "a worker serves")
        if process.popen.poll() is not None:
            raise RuntimeError(process.output())
        return Worker(process, started.values_list("name", flat=True)[0])

    def feed(self) -> None:
        """Create tasks until there are as many open ones as there shall be."""
        for _ in range(OPEN_TASKS - Task.objects.exclude(status__in=TERMINAL).count()):
            prompt = f"Write the lines (deploy-task-{len(self.tasks)}-)."
            self.tasks.append(self.world.create(prompt=prompt))

    def wait(self, condition: Callable[[], object], what: str, *, feed: bool = True) -> None:
        """Wait for a condition while tasks keep coming. Raises TimeoutError."""
        end = time.monotonic() + END_SECONDS
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {END_SECONDS:.0f} s: {what}")
            if feed:
                self.feed()
            time.sleep(0.02)

    def restart(self, place: int) -> None:
        """Stop a worker that has work, and put another in its place."""
        worker = self.workers[place]
        held = Task.objects.filter(lease_owner=worker.name)
        self.wait(held.exists, "the worker has work")
        # Not always at the same place of a run.
        moment = time.monotonic() + self.chance.uniform(0, 2)
        self.wait(lambda: time.monotonic() > moment and held.exists(), "the moment has come")
        at = _at(worker.name)
        began = time.monotonic()
        worker.process.send(signal.SIGTERM)
        # What is created and claimed meanwhile would be in the time that the stop took.
        self.wait(
            lambda: worker.process.popen.poll() is not None, "the worker has stopped", feed=False
        )
        self.stops.setdefault(at, []).append(time.monotonic() - began)
        status = worker.process.popen.returncode
        self.report.expect(status == 0, f"a worker ended with status {status}")
        left = held.count()
        self.report.expect(not left, f"a worker that has ended holds {left} tasks")
        self.workers[place] = self.start()


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Restart a worker ``count`` times, let all tasks end, and judge each of them."""
    report = Report(
        "Rolling deploy", ["when told to stop, runs were at", "stops", "p50 s", "max s"]
    )
    owner = User.objects.create(username="alice", email="alice@example.com")
    User.objects.filter(pk=owner.pk).update(concurrent_tasks=1000)
    owner.refresh_from_db()
    script = _thinking(random.Random(seed))
    with build_world(owner, script, stage.worker, stage.folder / "upstream") as world:
        ledger.grant(user_id=owner.pk, microcredits=10**12, reference="gift:deploy")
        before = ledger.balance(owner.pk)
        deploy = Deploy(stage, world, random.Random(seed), report)
        deploy.workers = [deploy.start(), deploy.start()]
        for number in range(count):
            deploy.restart(number % 2)
            stage.progress(number + 1, count, "restarts")
        opened = Task.objects.exclude(status__in=TERMINAL)
        deploy.wait(lambda: not opened.exists(), "every task ends", feed=False)
        for worker in deploy.workers:
            worker.process.send(signal.SIGTERM)
            worker.process.popen.wait(120)
        _judge(deploy, before.balance + before.held)
    for at, seconds in sorted(deploy.stops.items()):
        report.add(at, len(seconds), f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}")
    everything = [one for seconds in deploy.stops.values() for one in seconds]
    median, longest = statistics.median(everything), max(everything)
    report.add("all", len(everything), f"{median:.1f}", f"{longest:.1f}")
    return report


def _thinking(chance: random.Random) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the script; before each answer the model thinks, now and then for long."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        time.sleep(chance.choice([0.1, 0.3, 0.5, 1, LONGEST_THOUGHT]))
        turn = sum(1 for message in body["messages"] if message["role"] == "assistant")
        return SCRIPT[min(turn, len(SCRIPT) - 1)]

    return answer


def _at(worker: str) -> str:
    """Return what the runs of a worker are at now."""
    started = Step.objects.filter(task__lease_owner=worker, state=Step.State.STARTED)
    kinds = set(started.values_list("kind", flat=True))
    words = {Step.Kind.MODEL_CALL: "a model call", Step.Kind.TOOL_CALL: "a command"}
    found = [word for kind, word in words.items() if kind in kinds]
    return " and ".join(found) or "neither"


def _judge(deploy: Deploy, granted: int) -> None:
    report, tasks = deploy.report, list(Task.objects.all())
    asked = Counter(_number(body) for body in deploy.world.server.bodies())
    for number, task in enumerate(deploy.tasks):
        task.refresh_from_db()
        for loss in losses_of(task, asked=asked[number]):
            report.losses.append(f"task {number}: {loss}")
    balance = ledger.balance(deploy.world.owner.pk)
    spent = sum(task.charged_microcredits for task in tasks)
    report.expect(balance.held == 0, f"{balance.held} microcredits are still held")
    report.expect(balance.balance == granted - spent, "the balance is not what was spent")
    left = _processes(deploy.stage.folder)
    report.expect(not left, f"processes are left: {left}")
    lost = Step.objects.filter(kind=Step.Kind.MODEL_CALL, state=Step.State.LOST).count()
    report.facts |= {
        "tasks": f"{len(tasks)}, each of {len(SCRIPT)} model calls and {STEPS} commands",
        "runs handed on": sum(task.generation - 1 for task in tasks),
        "model calls asked for, settled, lost": (
            f"{asked.total()}, {LedgerEntry.objects.filter(kind='charge').count()}, {lost}"
        ),
        "lost attempts": sum(task.lost_attempts for task in tasks),
        "grace": f"{settings.STOP_SECONDS:g} s; the model's longest thought: {LONGEST_THOUGHT:g} s",
        "database": "PostgreSQL" if deploy.stage.is_postgres else "SQLite",
    }


def _number(body: dict[str, Any]) -> int:
    found = MARK.search(str(body["messages"]))
    return int(found[1]) if found else -1


def losses_of(task: Task, *, asked: int) -> list[str]:
    """Return what is wrong with a task that has ended."""
    calls = task.steps.filter(kind=Step.Kind.MODEL_CALL)
    settled = calls.filter(state=Step.State.DONE).count()
    open_steps = task.steps.exclude(state=Step.State.DONE).count()
    paid = LedgerEntry.objects.filter(
        kind="charge", reference__startswith=f"task:{task.pk}:"
    ).values_list("held_change", flat=True)
    added = []
    if hasattr(task, "result"):
        added = [line for line in task.result.diff.splitlines() if line.startswith("+line")]
    sequences = list(task.log.order_by("sequence").values_list("sequence", flat=True))
    ends = task.log.filter(kind__in=[f"task.{status}" for status in TERMINAL]).count()
    holds = {
        f"it ended {task.status} {task.error_code}".strip(): task.status == "completed",
        f"its lines are {added}": added == DIFF,
        f"{task.lost_attempts} attempts were counted as lost": task.lost_attempts == 0,
        f"{open_steps} steps were lost": open_steps == 0,
        f"{settled} calls were settled": settled == len(SCRIPT),
        f"{asked} calls were asked for": asked == len(SCRIPT),
        f"{len(paid)} calls were charged": len(paid) == len(SCRIPT),
        "its charges are not what it says": -sum(paid) == task.charged_microcredits,
        "its events have a gap": sequences == list(range(1, len(sequences) + 1)),
        f"it has {ends} terminal events": ends == 1,
    }
    return [words for words, is_good in holds.items() if not is_good]


def _processes(folder: Path) -> list[str]:
    """Return the command lines of the stage's processes, but for its Redis and this one."""
    connections.close_all()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = ((entry / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        is_known = str(folder).encode() in line + environment
        if is_known and b"redis-server" not in line and int(entry.name) != os.getpid():
            found.append(line.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found
