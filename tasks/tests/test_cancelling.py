"""A task is cancelled in every phase: it ends within seconds and leaves no process and no hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.utils import OperationalError

from accounts.models import User
from asynccoder.tests.processes import Process, wait_for
from billing.tests.make import assert_books_balance
from repositories import connect
from tasks import handback, lease, panes, runner
from tasks.lease import Claim, Ending
from tasks.models import Status, Task, TaskResult
from tasks.tests.make import make_task
from tasks.tests.phases import PHASES, Holder, build_holder, cancel, faults_of
from tasks.tests.test_run_in_process import run
from tasks.tests.world import SHORT, commit_files
from tasks.worker import CANCEL_SECONDS, END_SECONDS, Worker

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(400),
]
PREPARATION_SECONDS, WATCH_SECONDS = 1.0, 0.2
"""What the fork server may be at, and how often git's limits are looked at."""


@pytest.fixture
def holder(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path, settings: Any
) -> Iterator[Holder]:
    settings.OPENAI_API_KEY = "sk-platform-key"
    # Set here, so that what the holder makes of it ends with the test.
    settings.OUTBOUND_ALLOWED = []
    with build_holder(alice, worker_process, tmp_path) as holder:
        yield holder


@pytest.mark.parametrize("phase", PHASES)
def test_a_task_is_cancelled_in_every_phase_and_leaves_nothing(holder: Holder, phase: str) -> None:
    holder.start(**SHORT)
    task = holder.hold(phase)
    # Elsewhere than where it never was claimed, and where its run has let go of it.
    assert bool(holder.runs()) == (phase not in ("pending", "parked"))
    assert cancel(holder, task) == []
    assert_books_balance(task.owner)
    holder.let_go()
    # Nothing holds the mirror's lock any more, nor a slot.
    other = holder.create("its end", task.repository)
    holder.world.finished(other, seconds=120)
    task.refresh_from_db()
    assert (other.status, task.status) == (Status.COMPLETED, Status.CANCELLED)
    assert faults_of(holder, task, left=set()) == []


def test_a_run_that_goes_on_is_told_from_one_that_was_cancelled(holder: Holder) -> None:
    holder.start(**SHORT)
    task = holder.hold("command")
    running = holder.runs()
    assert running
    found = faults_of(holder, task, left=running)
    assert [words.partition(":")[0] for words in found] == [
        "it is running", "it ended by []", "still runs", "its hold is open",
    ]  # fmt: skip


def test_the_timers_of_a_cancellation_fit_what_is_promised(settings: Any) -> None:
    seen, gone = settings.CANCEL_POLL_SECONDS + PREPARATION_SECONDS, END_SECONDS
    assert seen + gone + handback.CANCELLED_SECONDS + WATCH_SECONDS < CANCEL_SECONDS


@pytest.mark.parametrize(("seconds", "is_kept"), [(60, True), (0, False)])
def test_a_cancellation_does_not_wait_for_a_difference_that_takes_long(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, seconds: float, is_kept: bool
) -> None:
    commit_files(tmp_path / "project", {"app.py": "def one():\n    return 1\n"})
    repository = connect.connect_repository(
        owner=alice, url=str(tmp_path / "project"), is_operator=True
    )
    task = run(alice, type="documentation", repository=repository)
    whole = task.result.diff
    assert whole
    TaskResult.objects.all().delete()
    Task.objects.update(status=Status.RUNNING, lease_owner="here")
    monkeypatch.setattr(handback, "CANCELLED_SECONDS", seconds)
    runner.end_from_outside(Claim(task.pk, task.generation), Ending(Status.CANCELLED))
    task = Task.objects.get()
    assert (task.status, TaskResult.objects.exists()) == (Status.CANCELLED, is_kept)
    assert panes.diff_of(task) == whole


def test_an_ending_waits_for_a_database_that_is_away(
    alice: User, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CANCEL_POLL_SECONDS = 0.01
    task = make_task(owner=alice)
    claimed = lease.claim(worker="here")
    assert claimed is not None
    tries: list[Claim] = []
    finish = lease.finish

    # Replaced, because no real server can be away for one connection alone.
    def finish_at_last(claimed: Claim, ending: Ending) -> bool:
        tries.append(claimed)
        if len(tries) < 3:
            raise OperationalError
        return finish(claimed, ending)

    monkeypatch.setattr(lease, "finish", finish_at_last)
    worker = Worker(slots=1)
    worker._begin_end(claimed, Ending(Status.CANCELLED))
    wait_for(lambda: not worker.busy, what="it has ended")
    task.refresh_from_db()
    assert (task.status, len(tries)) == (Status.CANCELLED, 3)
