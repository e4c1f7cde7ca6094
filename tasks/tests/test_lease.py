"""Who works on a task: claims, fencing, parking, loss."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import IO

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from accounts.models import User
from asynccoder.tests.processes import ROOT, process_environment
from billing import ledger
from tasks import events, lease, lifecycle
from tasks.errors import LeaseLost, TaskFinished
from tasks.events import Event
from tasks.lease import Claim, Ending
from tasks.models import Priority, Status, Task
from tasks.tests.make import make_model, make_repository, make_task

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]
DONE = Ending(Status.COMPLETED, outcome="done")


def in_threads(number: int, work: Callable[[int], object]) -> None:
    """Run ``work`` in threads that begin together; a thread's error fails the test."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(number)

    def body(index: int) -> None:
        try:
            barrier.wait()
            work(index)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=body, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def expire(task: Task) -> None:
    past = timezone.now() - timedelta(minutes=5)
    Task.objects.filter(pk=task.pk).update(lease_expires_at=past)


def claim(worker: str = "one") -> Claim:
    claimed = lease.claim(worker=worker)
    assert claimed is not None
    return claimed


def test_a_pending_task_is_claimed_once(alice: User) -> None:
    task = make_task(owner=alice)
    claimed = claim()
    assert claimed == Claim(task.pk, 1)
    assert lease.claim(worker="two") is None
    task.refresh_from_db()
    assert (task.status, task.lease_owner, task.started_at is None) == ("running", "one", False)


def test_two_workers_that_claim_at_once_never_both_win(alice: User) -> None:
    User.objects.update(concurrent_tasks=1000)
    model, repository = make_model(), make_repository(owner=alice)
    tasks = [make_task(owner=alice, model=model, repository=repository) for _ in range(200)]
    won: list[Claim] = []

    def work(index: int) -> None:
        while claimed := lease.claim(worker=f"worker {index}"):
            won.append(claimed)

    in_threads(2, work)
    assert Counter(claimed.task_id for claimed in won) == {task.pk: 1 for task in tasks}
    alice.refresh_from_db()
    assert alice.running_tasks == 200


CLAIMER = """
import sys
import django
django.setup()
from tasks import lease
print("ready", flush=True)
for line in sys.stdin:
    claimed = lease.claim(worker=sys.argv[1])
    print(claimed.generation if claimed else 0, flush=True)
"""


@pytest.mark.timeout(600)
def test_two_processes_that_claim_one_task_at_once_never_both_win(alice: User) -> None:
    User.objects.update(concurrent_tasks=1000)
    model, repository = make_model(), make_repository(owner=alice)
    with ExitStack() as stack:
        claimers = [stack.enter_context(claimer(name)) for name in ("one", "two")]
        for number in range(200):
            task = make_task(owner=alice, model=model, repository=repository)
            for ask, _ in claimers:
                print("claim", file=ask, flush=True)
            answers = sorted(int(hear.readline()) for _, hear in claimers)
            task.refresh_from_db()
            assert (answers, task.generation, task.status) == ([0, 1], 1, "running"), number
            assert task.log.filter(kind="task.started").count() == 1
    alice.refresh_from_db()
    assert alice.running_tasks == 200


@contextmanager
def claimer(name: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """Run a process that claims once for each line it is sent, and answers 1 when it has won."""
    with subprocess.Popen(
        [sys.executable, "-c", CLAIMER, name], env=process_environment(), cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.stdin, process.stdout
        process.stdin.close()


def test_the_limit_of_a_user_holds_under_concurrency(alice: User) -> None:
    User.objects.update(concurrent_tasks=2)
    for _ in range(12):
        make_task(owner=alice)
    in_threads(8, lambda index: lease.claim(worker=f"worker {index}"))
    assert Task.objects.filter(status=Status.RUNNING).count() == 2


def test_priority_then_fairness_then_age_decide(alice: User, mallory: User) -> None:
    User.objects.update(concurrent_tasks=10)
    first, second = make_task(owner=alice), make_task(owner=alice)
    others = make_task(owner=mallory)
    urgent = make_task(owner=alice, priority=Priority.URGENT)
    order = [claim().task_id for _ in range(4)]
    assert order == [urgent.pk, others.pk, first.pk, second.pk]


def test_a_stale_worker_changes_nothing(alice: User) -> None:
    task = make_task(owner=alice)
    stale = claim("old")
    expire(task)
    assert lease.take_back_expired() == 1
    fresh = claim("new")
    with pytest.raises(LeaseLost):
        events.append(task.pk, Event("log.written", "late"), generation=stale.generation)
    assert lease.finish(stale, DONE) is False
    assert lease.give_back(stale, is_lost=True) is False
    with pytest.raises(LeaseLost):
        lease.park(stale, seconds=1, reason="late")
    assert lease.renew(worker="old", task_ids=[task.pk]) == 0
    assert not task.log.filter(message="late").exists()
    assert lease.finish(fresh, DONE) is True


def test_a_task_that_lost_three_workers_fails_and_frees_everything(alice: User) -> None:
    ledger.grant(user_id=alice.pk, microcredits=5_000_000, reference="gift")
    task = make_task(owner=alice, held=2_000_000)
    assert ledger.balance(alice.pk).balance == 3_000_000
    for _ in range(3):
        claim()
        expire(task)
        assert lease.take_back_expired() == 1
    task.refresh_from_db()
    alice.refresh_from_db()
    assert (task.status, task.error_code) == (Status.FAILED, "worker_lost")
    assert alice.running_tasks == 0
    assert ledger.balance(alice.pk).balance == 5_000_000
    assert lease.claim(worker="one") is None


def test_a_renewed_lease_is_not_taken_back(alice: User) -> None:
    task = make_task(owner=alice)
    claim()
    expire(task)
    assert lease.renew(worker="one", task_ids=[task.pk]) == 1
    assert lease.take_back_expired() == 0


def test_a_parked_run_sleeps_until_its_time_and_holds_no_place(alice: User) -> None:
    task = make_task(owner=alice)
    lease.park(claim(), seconds=600, reason="busy")
    task.refresh_from_db()
    alice.refresh_from_db()
    assert task.is_parked
    assert alice.running_tasks == 0
    assert lease.claim(worker="one") is None
    Task.objects.update(run_after=timezone.now() - timedelta(seconds=1))
    assert claim() == Claim(task.pk, 2)


def test_a_run_that_only_waits_ends_after_a_day(alice: User) -> None:
    task = make_task(owner=alice)
    for _ in range(3):
        Task.objects.update(run_after=timezone.now() - timedelta(seconds=1))
        lease.park(claim(), seconds=20 * 3600, reason="busy")
    task.refresh_from_db()
    assert task.deadline_at is not None
    assert task.started_at is not None
    assert task.deadline_at - task.started_at == timedelta(days=1)
    assert lease.end_overdue() == 0
    Task.objects.update(deadline_at=timezone.now() - timedelta(seconds=1))
    assert lease.end_overdue() == 1
    task.refresh_from_db()
    assert (task.status, task.error_code) == (Status.FAILED, "deadline_passed")


def test_a_run_that_is_parked_after_its_cancellation_ends_at_once(alice: User) -> None:
    task = make_task(owner=alice)
    claimed = claim()
    lifecycle.cancel_task(task, by=alice)
    lease.park(claimed, seconds=3600, reason="busy")
    task.refresh_from_db()
    assert task.status == Status.CANCELLED
    alice.refresh_from_db()
    assert alice.running_tasks == 0


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_days_without_a_worker_are_not_the_runs(alice: User, is_lost: bool) -> None:
    task = make_task(owner=alice)
    claimed = claim()
    if not is_lost:
        assert lease.give_back(claimed, is_lost=False)
    days = timedelta(days=3)
    moments = ("started_at", "deadline_at", "lease_expires_at")
    Task.objects.update(**{name: F(name) - days for name in moments})
    lease.take_back_expired()
    assert lease.end_overdue() == 0
    assert claim("two") == Claim(task.pk, 2)
    assert lease.overdue_runs("two") == []


def test_a_run_that_nobody_may_take_ends_after_a_day(alice: User) -> None:
    task = make_task(owner=alice, held=0)
    lease.give_back(claim(), is_lost=True)
    User.objects.update(is_active=False)
    assert lease.end_overdue() == 0
    Task.objects.update(deadline_at=F("deadline_at") - timedelta(days=1, seconds=1))
    assert lease.end_overdue() == 1
    task.refresh_from_db()
    assert (task.status, task.error_code) == (Status.FAILED, "deadline_passed")


def test_twenty_ways_to_end_at_once_leave_one_terminal_event(alice: User) -> None:
    make_task(owner=alice)
    claimed = claim()
    won: list[bool] = []
    endings = [DONE, Ending(Status.CANCELLED), Ending(Status.FAILED, error_code="x")]
    in_threads(20, lambda index: won.append(lease.finish(claimed, endings[index % 3])))
    assert won.count(True) == 1
    task = Task.objects.get()
    terminal = task.log.filter(kind__in=["task.completed", "task.cancelled", "task.failed"])
    assert terminal.count() == 1
    alice.refresh_from_db()
    assert alice.running_tasks == 0
    assert alice.feed_events.filter(event="task:completed").count() == 1


def test_a_held_task_is_not_ended_by_who_does_not_hold_it(alice: User) -> None:
    task = make_task(owner=alice)
    claim()
    with pytest.raises(TaskFinished):
        lease.finish_unheld(task.pk, Ending(Status.CANCELLED))


def test_events_of_many_writers_have_no_gap_and_no_double(alice: User) -> None:
    task = make_task(owner=alice)
    before = task.event_sequence
    in_threads(10, lambda index: events.append(task.pk, Event("log.written", str(index))))
    task.refresh_from_db()
    sequences = list(task.log.order_by("sequence").values_list("sequence", flat=True))
    assert sequences[-10:] == list(range(before + 1, before + 11))
    assert task.event_sequence == before + 10


def test_progress_never_goes_backwards(alice: User) -> None:
    task = make_task(owner=alice, progress=50)
    events.append(task.pk, Event("task.progressed"), progress=lease.raise_progress(20))
    task.refresh_from_db()
    assert task.progress == 50
