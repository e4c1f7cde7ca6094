"""The campaign ``cancel``: its small size, and that it sees what came too late or was left."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from accounts.models import User
from campaigns import cancel
from campaigns.cancel import ANYWHERE, PLACES, Cancellations
from campaigns.report import Report
from campaigns.tests.commands import play
from tasks.models import Task, TaskLog
from tasks.tests.make import make_log, make_task


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_task_is_cancelled_in_time_in_every_phase() -> None:
    told = play("cancel", count=len(PLACES))
    for place in PLACES[:-1]:
        assert f"| {place} | 1 |" in told


@pytest.fixture
def task(alice: User) -> Task:
    """A task that was cancelled while a worker held it."""
    task = make_task(owner=alice, status="cancelled")
    for kind in ("task.created", "task.started", "task.cancel_requested", "task.cancelled"):
        make_log(task, kind=kind)
    return task


def cancel_after(task: Task, seconds: float) -> None:
    rows = TaskLog.objects.filter(task=task)
    asked = rows.get(kind="task.cancel_requested").created_at
    rows.filter(kind="task.cancelled").update(created_at=asked + timedelta(seconds=seconds))


class Held:
    """A holder whose tasks are already where they shall be, and have ended."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def hold(self, phase: str) -> Task:
        return self.task

    def create(self, phase: str) -> Task:
        return self.task

    def wait_until_idle(self) -> None:
        """Nothing runs."""


@pytest.fixture
def played(task: Task, monkeypatch: pytest.MonkeyPatch) -> Cancellations:
    monkeypatch.setattr(cancel, "cancel", lambda holder, task: [])
    held: Any = Held(task)
    return Cancellations(held, random.Random(1), Report("", ["phase", "cancelled", "p50", "max"]))


@pytest.mark.parametrize(("seconds", "losses"), [(4.9, []), (5.1, ["setup: it took 5.1 s"])])
def test_a_late_end_is_a_loss(
    task: Task, played: Cancellations, seconds: float, losses: list[str]
) -> None:
    cancel_after(task, seconds)
    played.play("setup")
    assert played.report.losses == losses
    assert played.seconds == {"setup": [pytest.approx(seconds)]}


@pytest.mark.parametrize(("place", "losses"), [(ANYWHERE, []), ("setup", ["setup: it took inf s"])])
def test_only_at_a_random_moment_a_task_may_come_to_its_own_end(
    task: Task, played: Cancellations, place: str, losses: list[str]
) -> None:
    task.log.filter(kind="task.cancelled").update(kind="task.completed")
    task.status = "completed"
    played.play(place)
    assert played.report.losses == losses
    assert played.too_late == (place == ANYWHERE)


def test_a_task_that_nobody_held_ends_with_the_wish_itself(task: Task) -> None:
    task.log.filter(kind="task.cancel_requested").delete()
    assert cancel.seconds_of(task) == 0


def test_a_task_that_was_not_cancelled_is_no_figure(task: Task) -> None:
    task.log.filter(kind="task.cancelled").delete()
    assert cancel.seconds_of(task) == float("inf")
