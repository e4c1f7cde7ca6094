"""Races for one row: who spends, who ends a task, who claims it. Every check returns its faults."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from accounts.models import User
from asynccoder.lib.errors import Conflict
from billing import ledger
from billing.models import CreditHold, LedgerEntry
from billing.tests.make import assert_books_balance
from campaigns.crowd import Crowd, meet
from tasks import events, lease, lifecycle
from tasks.errors import LeaseLost
from tasks.events import Event
from tasks.lease import Claim, Ending
from tasks.models import TERMINAL, Status, Task, TaskType
from tasks.tests.make import make_repository, make_task

CREDIT = ledger.MICROCREDITS
CHUNK = 40
DONE, CANCELLED = Ending(Status.COMPLETED, outcome="done"), Ending(Status.CANCELLED)
ENDS = Q(log__kind__in=[f"task.{status}" for status in TERMINAL])


def make_user(name: str, *, credits: int = 0) -> User:
    user = User.objects.create_user(name, f"{name}@example.com", concurrent_tasks=1_000_000)
    ledger.grant(user_id=user.pk, microcredits=credits * CREDIT, reference=f"opening:{user.pk}")
    return user


def books_faults(user: User) -> list[str]:
    """Return what is wrong with an account and its ledger; nothing is."""
    try:
        assert_books_balance(user)
    except AssertionError as error:
        return [f"the books of {user} do not balance: {error}"]
    return []


# --- the ledger --------------------------------------------------------------------------------

REFUSALS = ("OutOfCredit:",)
Operation = tuple[str, str, str, int, str]
"""A verb, the user's id, its reference, microcredits, and the hold that it is about."""


def operations(users: Sequence[User], count: int, seed: int) -> list[Operation]:
    """Return so many operations in a random order; every third repeats an earlier one.

    The holds that they spend from are opened here, so that what may be refused is known.
    """
    chance = random.Random(seed)
    found: list[Operation] = []
    for number in range(count - count // 3):
        user = users[number % len(users)]
        hold = f"{user.username}:{number % 8}"
        if number < 8 * len(users):
            ledger.hold(user_id=user.pk, microcredits=50_000, reference=hold, description="")
        verb = chance.choice(["grant", "adjust", "hold", "charge", "charge", "release"])
        reference = f"{user.username}:{verb}:{number}"
        found.append((verb, str(user.pk), reference, chance.randrange(1, 9_000), hold))
    found += chance.choices(found, k=count // 3)
    chance.shuffle(found)
    return found


def operate(operation: Operation) -> str:
    """Do one operation; return its reference where it moved something now."""
    verb, user, reference, amount, hold = operation
    owner: dict[str, Any] = {"user_id": uuid.UUID(user), "description": "", "reference": reference}
    try:
        match verb:
            case "grant":
                moved: object = ledger.grant(microcredits=amount, **owner)
            case "adjust":
                moved = ledger.adjust(microcredits=-amount, **owner)
            case "hold":
                moved = bool(ledger.hold(microcredits=amount, **owner)) and 0
            case "release":
                moved, reference = ledger.release(hold_reference=hold), f"{hold}:release"
            case _:
                moved = ledger.charge(
                    hold_reference=hold, microcredits=amount, reference=reference, description=""
                )
    except Conflict:
        return ""
    return reference if moved else ""


def ledger_faults(users: Sequence[User], told: Sequence[str]) -> list[str]:
    """Compare what the verbs answered with what the ledger has."""
    errors = [line for line in told if ": " in line and not line.startswith(REFUSALS)]
    found = [f"a user saw {line}" for line in errors]
    moved = Counter(line for line in told if line and ": " not in line)
    found += [f"{ref} was done {times} times" for ref, times in moved.items() if times > 1]
    known = set(LedgerEntry.objects.values_list("reference", flat=True))
    found += [f"{reference} was answered and is not there" for reference in set(moved) - known]
    return found + [fault for user in users for fault in books_faults(user)]


# --- who ends a task ---------------------------------------------------------------------------

Job = tuple[str, str, int]
"""The kind of a race, the task's id, and the generation of its lease."""


def take_sides(side: int, jobs: Sequence[Job]) -> list[str]:
    """Play one of three sides in every race; return what was not to be raised."""
    found = []
    for kind, task_id, generation in jobs:
        task = Task.objects.select_related("owner").get(pk=task_id)
        act = SIDES[kind][side]
        meet()
        try:
            act(task, Claim(task.pk, generation))
        except (Conflict, LeaseLost):
            continue
        except Exception as error:  # noqa: BLE001 - anything but those two is a fault
            found.append(f"{kind}, side {side}: {type(error).__name__}: {error}")
    return found


def _cancel(task: Task, _: Claim) -> None:
    lifecycle.cancel_task(task, by=task.owner)


def _complete(_: Task, claimed: Claim) -> None:
    lease.finish(claimed, DONE)


def _watch(task: Task, claimed: Claim) -> None:
    """Do as the worker's watch does: end the run once its user has asked for that."""
    for _ in range(20):
        if claimed in lease.cancelled_runs("worker"):
            lease.finish(claimed, CANCELLED)
        elif Task.objects.held(task.pk, claimed.generation).exists():
            continue
        return


def _claim(task: Task, _: Claim) -> None:
    lease.claim(worker="worker", only=task.pk)


def _take_back(task: Task, claimed: Claim) -> None:
    expire(task)
    lease.take_back_expired()


def _park(_: Task, claimed: Claim) -> None:
    lease.park(claimed, seconds=3600, reason="busy")


SIDES: dict[str, tuple[Callable[[Task, Claim], None], ...]] = {
    "complete": (_cancel, _complete, _watch),
    "claim": (_cancel, _claim, _claim),
    "take back": (_cancel, _take_back, _complete),
    "park": (_cancel, _park, _complete),
}


def expire(task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(lease_expires_at=timezone.now() - timedelta(minutes=5))


def race_endings(
    crowd: Crowd, count: int, progress: Callable[[int], None]
) -> tuple[Counter[str], list[str]]:
    """Race a cancellation against whatever else ends or moves a task; return ends and faults."""
    ends: Counter[str] = Counter()
    found: list[str] = []
    for begin in range(0, count, CHUNK):
        progress(begin)
        owner = make_user(f"racer-{begin}", credits=CHUNK)
        repository = make_repository(owner=owner)
        jobs = []
        for number in range(begin, min(begin + CHUNK, count)):
            kind = list(SIDES)[number % len(SIDES)]
            task = make_task(owner=owner, held=CREDIT, repository=repository)
            claimed = None if kind == "claim" else lease.claim(worker="worker", only=task.pk)
            jobs.append((kind, str(task.pk), claimed.generation if claimed else 0))
        shares = [(side, jobs) for side in range(3)]
        found += [fault for told in crowd.together(take_sides, shares) for fault in told]
        tasks = [Task.objects.get(pk=task_id) for _, task_id, _ in jobs]
        for (kind, _, _), task in zip(jobs, tasks, strict=True):
            end_rest(task)
            ends[f"{kind}: {task.status}"] += 1
        found += ending_faults(owner)
    return ends, found


def end_rest(task: Task) -> None:
    """End what is still running, as its worker or the next one would."""
    if task.status == Status.RUNNING and task.lease_owner:
        ending = CANCELLED if task.cancel_requested_at else DONE
        lease.finish(Claim(task.pk, task.generation), ending)
    elif not task.is_finished:
        lease.finish_unheld(task.pk, CANCELLED)
    task.refresh_from_db()


def ending_faults(owner: User) -> list[str]:
    """Return the tasks that did not end exactly once with everything given back."""
    tasks = Task.objects.filter(owner=owner).annotate(ends=Count("log", filter=ENDS))
    found = [f"{task.pk} is {task.status}" for task in tasks.exclude(status__in=TERMINAL)]
    counts = tasks.exclude(ends=1).values_list("pk", "ends")
    found += [f"{task_id} ended {ends} times" for task_id, ends in counts]
    holds = CreditHold.objects.filter(account__user=owner, is_open=True)
    found += [f"the hold {hold.reference} is open" for hold in holds]
    owner.refresh_from_db()
    if owner.running_tasks:
        found.append(f"{owner} still has {owner.running_tasks} places taken")
    return found + books_faults(owner)


# --- who claims a task -------------------------------------------------------------------------


def claim_all(side: int, task_ids: Sequence[str]) -> list[int]:
    """Claim every task together with the others; return the generations that were won, else 0."""
    won = []
    for task_id in task_ids:
        meet()
        claimed = lease.claim(worker=f"worker {side}", only=uuid.UUID(task_id))
        won.append(claimed.generation if claimed else 0)
    return won


def race_claims(crowd: Crowd, owner: User, count: int) -> list[str]:
    """Let all claim each of so many tasks at once; return every claim that was not won once."""
    tasks = [make_task(owner=owner, type=TaskType.BUILD, repository=None) for _ in range(count)]
    ids = [str(task.pk) for task in tasks]
    won = crowd.together(claim_all, [(side, ids) for side in range(crowd.size)])
    found = claim_faults(list(zip(*won, strict=True)))
    for task in tasks:
        found += stale_faults(task)
    return found + ending_faults(owner)


def claim_faults(won: Sequence[Sequence[int]]) -> list[str]:
    """Return the claims that nobody has won, or more than one; a row holds what each has won."""
    winners = [sum(1 for generation in row if generation) for row in won]
    return [f"claim {row} was won by {count}" for row, count in enumerate(winners) if count != 1]


def stale_faults(task: Task) -> list[str]:
    """Let a second worker take over, and the first write all it can; return what it changed."""
    stale = Claim(task.pk, 1)
    expire(task)
    lease.take_back_expired()
    fresh = lease.claim(worker="fresh", only=task.pk)
    before = _picture(task)
    for write in STALE_WRITES:
        try:
            write(stale)
        except LeaseLost:
            continue
    found = [] if _picture(task) == before else [f"{task.pk}: a stale worker changed something"]
    if fresh is None or not lease.finish(fresh, DONE):
        found.append(f"{task.pk}: the worker that took over could not end it")
    return found


STALE_WRITES: list[Callable[[Claim], object]] = [
    lambda claimed: events.append(
        claimed.task_id, Event("log.written", "late"), generation=claimed.generation
    ),
    lambda claimed: lease.finish(claimed, DONE),
    lambda claimed: lease.park(claimed, seconds=1, reason="late"),
    lambda claimed: lease.give_back(claimed, is_lost=True),
    lambda claimed: lease.renew(worker="worker 0", task_ids=[claimed.task_id]),
    lambda claimed: lease.renew(worker="worker 1", task_ids=[claimed.task_id]),
]


def _picture(task: Task) -> tuple[object, int]:
    return Task.objects.filter(pk=task.pk).values().get(), task.log.count()
