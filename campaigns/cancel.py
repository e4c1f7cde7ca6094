"""A user who cancels, in every phase of a task and at random moments: how long until it has ended.

One worker with the default times. One task is cancelled after another, while a task of somebody
else thinks from the first to the last; it must come to its end. The seconds of a cancellation are
those between its two events, ``task.cancel_requested`` and ``task.cancelled``: whoever sees the
second one may count on no process and no hold being left.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass, field

from accounts.models import User
from campaigns.races import books_faults
from campaigns.report import Report
from campaigns.stage import Stage
from tasks.errors import TaskFinished
from tasks.models import Status, Task
from tasks.tests.phases import OTHER, PHASES, Holder, build_holder, cancel
from tasks.worker import CANCEL_SECONDS

ANYWHERE, ITS_END = "any moment", "its end"
PLACES = (*PHASES, ANYWHERE)
QUIET = {"MODEL_MAX_RETRIES": "0"}
"""A provider that is busy parks the run at once."""


@dataclass
class Cancellations:
    """What was cancelled so far. ``seconds`` are by place, ``span`` is how long a whole task takes."""

    holder: Holder
    chance: random.Random
    report: Report
    seconds: dict[str, list[float]] = field(default_factory=dict)
    too_late: int = 0
    span: float = 0.0

    def play(self, place: str) -> None:
        """Cancel one task at a place and judge it at the moment that it has ended.

        At a random moment it may come to its own end before its worker sees the wish.
        """
        if place == ANYWHERE:
            task = self.holder.create(ITS_END)
            time.sleep(self.chance.uniform(0, self.span))
        else:
            task = self.holder.hold(place)
        try:
            faults = cancel(self.holder, task)
        except TaskFinished:
            faults = []
        if place == ANYWHERE and task.status == Status.COMPLETED:
            self.too_late += 1
            self.holder.wait_until_idle()
            return
        seconds = seconds_of(task)
        self.seconds.setdefault(place, []).append(seconds)
        if seconds > CANCEL_SECONDS:
            faults.append(f"it took {seconds:.1f} s")
        self.report.losses += [f"{place}: {fault}" for fault in faults]


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Cancel ``count`` tasks, each place in turn."""
    report = Report("Cancelled by its user", ["phase", "cancelled", "p50 s", "max s"])
    owner = User.objects.create(username="alice", email="alice@example.com")
    with build_holder(owner, stage.worker, stage.folder) as holder:
        holder.start(**QUIET)
        played = Cancellations(holder, random.Random(seed), report)
        played.span = span_of(holder)
        other = holder.hold(OTHER)
        holder.others = holder.runs()
        for number in range(count):
            played.play(PLACES[number % len(PLACES)])
            stage.progress(number + 1, count, "cancellations")
        holder.let_go()
        holder.world.finished(other)
        report.expect(other.status == Status.COMPLETED, f"the other task is {other.status}")
        report.losses += books_faults(owner)
    tell(played)
    report.facts["database"] = "PostgreSQL" if stage.is_postgres else "SQLite"
    return report


def span_of(holder: Holder) -> float:
    """Return how many seconds a task takes that nobody cancels; the first one makes the mirror."""
    holder.world.finished(holder.create(ITS_END))
    task = holder.world.finished(holder.create(ITS_END))
    if task.completed_at is None or task.status != Status.COMPLETED:
        raise RuntimeError(f"a task in peace ended {task.status}: {task.error_message}")
    return (task.completed_at - task.created_at).total_seconds()


def seconds_of(task: Task) -> float:
    """Return the time between the wish and the end; one that nobody held ended by the wish itself."""
    times = dict(
        task.log.filter(kind__in=["task.cancel_requested", "task.cancelled"]).values_list(
            "kind", "created_at"
        )
    )
    ended = times.get("task.cancelled")
    asked = times.get("task.cancel_requested", ended)
    return (ended - asked).total_seconds() if ended and asked else float("inf")


def tell(played: Cancellations) -> None:
    for place in PLACES:
        if seconds := played.seconds.get(place):
            add(played.report, place, seconds)
    add(played.report, "all", [one for each in played.seconds.values() for one in each])
    played.report.facts |= {
        "promised": f"ended within {CANCEL_SECONDS:g} s, and then no process and no hold is left",
        "came to their own end first": played.too_late,
        "a task in peace": f"{played.span:.1f} s",
    }


def add(report: Report, place: str, seconds: list[float]) -> None:
    if seconds:
        median, longest = statistics.median(seconds), max(seconds)
        report.add(place, len(seconds), f"{median:.2f}", f"{longest:.2f}")
