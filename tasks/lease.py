"""Who works on a task: claim, renew, park, give back, take back, finish.

A claim is a lease with a fencing token, ``generation`` (agent-design, section 1). Every write of
a run filters on it, so that a worker that was thought dead changes nothing. All times are the
database's. The order of row locks is task, then user, then hold and account.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F, Q
from django.db.models.functions import Coalesce, Greatest, Least, Now

from accounts import feed
from accounts.models import User
from asynccoder.lib.errors import RunFailed
from billing import ledger
from tasks import events
from tasks.errors import DeadlinePassed, LeaseLost, TaskFinished, WorkerLost
from tasks.models import Check, Status, Step, Task, TaskAnalytics

CANDIDATES = 20
"""How many due tasks one claim looks at: the first owners may be at their limit."""
CLAIM_READS = ("owner_id", "status", "generation", "run_after", "progress")


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease that was won. ``generation`` goes with every write of the run."""

    task_id: uuid.UUID
    generation: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ends."""

    status: Status
    outcome: str = ""
    error_code: str = ""
    error_message: str = ""
    by: str = ""

    @classmethod
    def failed(cls, error: RunFailed) -> Ending:
        return cls(Status.FAILED, error_code=error.code, error_message=error.message)


def hold_reference(task_id: uuid.UUID) -> str:
    return f"task:{task_id}"


def due() -> Any:
    """Return the tasks that a worker may claim now, the first to claim first.

    By priority, then by fairness between users (who runs least comes first), then by age.
    """
    return (
        Task.objects.claimable()
        .filter(Q(run_after=None) | Q(run_after__lte=Now()))
        .filter(owner__running_tasks__lt=F("owner__concurrent_tasks"), owner__is_active=True)
        .order_by("-priority", "owner__running_tasks", "created_at", "id")
    )


def claim(*, worker: str, only: uuid.UUID | None = None) -> Claim | None:
    """Win the lease of the next task that is due, or return None.

    1. Look at the first candidates without locking any: a locked row would hide from others.
    2. Lock one of them, or go on to the next when another claim has it.
    3. Take one of the owner's places by a conditional UPDATE (a count would let more through).
    4. Take the lease by a conditional UPDATE on the generation that was seen.
    """
    candidates = due() if only is None else due().filter(pk=only)
    for task_id in list(candidates.values_list("pk", flat=True)[:CANDIDATES]):
        claimed = _claim_one(task_id, worker)
        if claimed is not None:
            return claimed
    return None


def _claim_one(task_id: uuid.UUID, worker: str) -> Claim | None:
    # Prompt, files and patch may be long, and nothing here reads them.
    rows = Task.objects.claimable().filter(pk=task_id).only(*CLAIM_READS)
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True)
    with transaction.atomic():
        task = rows.first()
        if task is None or not _take_place(task.owner_id):
            return None
        return Claim(task.pk, task.generation + 1) if _take_lease(task, worker) else None


def _take_place(user_id: uuid.UUID) -> bool:
    places = User.objects.filter(pk=user_id, running_tasks__lt=F("concurrent_tasks"))
    return places.update(running_tasks=F("running_tasks") + 1) == 1


def _free_place(user_id: uuid.UUID) -> None:
    User.objects.filter(pk=user_id, running_tasks__gt=0).update(
        running_tasks=F("running_tasks") - 1
    )


def _take_lease(task: Task, worker: str) -> bool:
    is_first = task.status == Status.PENDING
    won = (
        Task.objects.claimable()
        .filter(pk=task.pk, generation=task.generation)
        .update(
            status=Status.RUNNING,
            lease_owner=worker,
            generation=F("generation") + 1,
            lease_expires_at=Now() + timedelta(seconds=settings.LEASE_SECONDS),
            deadline_at=_deadline_of(task),
            started_at=Coalesce("started_at", Now()),
            run_after=None,
            event_sequence=F("event_sequence") + 1,
        )
    )
    if not won:
        _free_place(task.owner_id)
        return False
    kind = "task.started" if is_first else "task.resumed"
    message = "A worker has picked the task up." if is_first else "The task goes on."
    events.record(task.pk, events.Event(kind, message, data={"attempt": task.generation + 1}))
    task.status = Status.RUNNING
    events.announce_status(task)
    return True


def _deadline_of(task: Task) -> Any:
    """Return when a run ends that a worker takes now: the engine's own limit and time to hand back.

    The time without a worker is not the run's. One that was parked keeps its deadline, which was
    moved when it was parked, or it could be parked for ever.
    """
    whole = Now() + timedelta(seconds=settings.AGENT_DEADLINE_SECONDS + 600)
    return whole if task.run_after is None else Coalesce("deadline_at", whole)


def _wait_limit() -> timedelta:
    return timedelta(seconds=settings.PARKED_MOST_SECONDS)


def renew(*, worker: str, task_ids: Iterable[uuid.UUID]) -> int:
    """Renew the leases of runs that are alive here and still ours; return how many."""
    held = Task.objects.filter(pk__in=list(task_ids), lease_owner=worker, status=Status.RUNNING)
    return int(held.update(lease_expires_at=Now() + timedelta(seconds=settings.LEASE_SECONDS)))


def check(claimed: Claim) -> None:
    """Raise LeaseLost unless the lease is still held."""
    if not Task.objects.held(claimed.task_id, claimed.generation).exists():
        raise LeaseLost(str(claimed.task_id))


def give_back(claimed: Claim, *, is_lost: bool) -> bool:
    """Give the lease up so that a worker can go on at the next step.

    ``is_lost`` counts the attempt: after ``LEASE_MAX_LOST`` of them the task fails.
    """
    return _drop_lease(
        Task.objects.held(claimed.task_id, claimed.generation), claimed.task_id, is_lost=is_lost
    )


def park(claimed: Claim, *, seconds: float, reason: str) -> None:
    """Let the run sleep until a provider is ready; it holds no worker meanwhile."""
    with transaction.atomic():
        owner_id = Task.objects.values_list("owner_id", flat=True).get(pk=claimed.task_id)
        until = Now() + timedelta(seconds=seconds)
        events.append(
            claimed.task_id,
            events.Event("task.parked", reason, "warning", {"seconds": round(seconds)}),
            generation=claimed.generation,
            lease_owner="",
            lease_expires_at=None,
            run_after=until,
            # Waiting does not use up the run's time, but a task that only waits ends, too.
            deadline_at=Least(
                F("deadline_at") + timedelta(seconds=seconds),
                F("started_at") + _wait_limit(),
            ),
        )
        _free_place(owner_id)
        _cancel_if_asked(Task.objects.get(pk=claimed.task_id))


def take_back_expired() -> int:
    """Take back the leases that ran out, and fail what was lost too often; return how many."""
    expired = Task.objects.filter(status=Status.RUNNING, lease_expires_at__lt=Now()).exclude(
        lease_owner=""
    )
    taken = 0
    for task_id, generation in list(expired.values_list("pk", "generation")):
        rows = Task.objects.held(task_id, generation).filter(lease_expires_at__lt=Now())
        taken += _drop_lease(rows, task_id, is_lost=True)
    return taken


def _drop_lease(rows: Any, task_id: uuid.UUID, *, is_lost: bool) -> bool:
    with transaction.atomic():
        dropped = rows.update(
            lease_owner="",
            lease_expires_at=None,
            deadline_at=Now() + _wait_limit(),
            lost_attempts=F("lost_attempts") + (1 if is_lost else 0),
            event_sequence=F("event_sequence") + 1,
        )
        if not dropped:
            return False
        task = Task.objects.get(pk=task_id)
        _free_place(task.owner_id)
        events.record(task_id, _lost() if is_lost else _given_back())
        if task.lost_attempts >= settings.LEASE_MAX_LOST:
            finish_unheld(task_id, Ending.failed(WorkerLost()))
        else:
            _cancel_if_asked(task)
    return True


def _lost() -> events.Event:
    message = "The worker was lost; the task goes on at its last step."
    return events.Event("task.worker_lost", message, "warning")


def _given_back() -> events.Event:
    return events.Event("task.given_back", "The worker stops; the task goes on elsewhere.")


def _cancel_if_asked(task: Task) -> None:
    """End a task that was just let go of, if its user has cancelled it meanwhile."""
    if task.cancel_requested_at:
        finish_unheld(task.pk, Ending(Status.CANCELLED))


def cancelled_runs(worker: str) -> list[Claim]:
    """Return the runs of this worker whose users have cancelled them."""
    rows = Task.objects.filter(lease_owner=worker, status=Status.RUNNING)
    rows = rows.exclude(cancel_requested_at=None)
    return [Claim(*row) for row in rows.values_list("pk", "generation")]


def overdue_runs(worker: str) -> list[Claim]:
    """Return the runs of this worker that have passed their deadline."""
    rows = Task.objects.filter(lease_owner=worker, status=Status.RUNNING, deadline_at__lt=Now())
    return [Claim(*row) for row in rows.values_list("pk", "generation")]


def end_overdue() -> int:
    """Fail the runs that nobody holds, can take or may wait for any longer; return how many.

    One that is due is left to the next worker: there may have been none for days.
    """
    overdue = Task.objects.claimable().filter(status=Status.RUNNING, deadline_at__lt=Now())
    overdue = overdue.exclude(pk__in=due().order_by().values("pk"))
    ended = 0
    for task_id in list(overdue.values_list("pk", flat=True)):
        with suppress(TaskFinished):
            finish_unheld(task_id, Ending.failed(DeadlinePassed()))
            ended += 1
    return ended


def finish(claimed: Claim, ending: Ending) -> bool:
    """End a run that is held. False when the lease is lost or the task has already ended."""
    with transaction.atomic():
        rows = Task.objects.held(claimed.task_id, claimed.generation)
        if not _end(rows, claimed.task_id, ending):
            return False
        _free_place(Task.objects.values_list("owner_id", flat=True).get(pk=claimed.task_id))
    return True


def finish_unheld(task_id: uuid.UUID, ending: Ending) -> None:
    """End a task that no worker holds. Raises TaskFinished when it is held or has ended."""
    with transaction.atomic():
        if not _end(Task.objects.claimable().filter(pk=task_id), task_id, ending):
            raise TaskFinished


def _end(rows: Any, task_id: uuid.UUID, ending: Ending) -> bool:
    """Write the one terminal event; release what is still held; leave figures for reports."""
    progress = {"progress": 100} if ending.status == Status.COMPLETED else {}
    ended = rows.update(
        status=ending.status,
        outcome=ending.outcome,
        error_code=ending.error_code,
        error_message=ending.error_message,
        completed_at=Now(),
        lease_owner="",
        lease_expires_at=None,
        run_after=None,
        current_step="",
        event_sequence=F("event_sequence") + 1,
        **progress,
    )
    if not ended:
        return False
    task = Task.objects.select_related("model").get(pk=task_id)
    ledger.release(hold_reference=hold_reference(task_id))
    events.record(task_id, _terminal_event(task, ending))
    feed.append(user_id=task.owner_id, event="task:completed", data=_completed(task))
    _write_analytics(task)
    return True


def _terminal_event(task: Task, ending: Ending) -> events.Event:
    level = {"completed": "info", "failed": "error"}.get(ending.status, "warning")
    message = ending.error_message or {
        "completed": "The task is done.",
        "cancelled": f"Cancelled by {ending.by}." if ending.by else "The task was cancelled.",
    }.get(ending.status, "The task has failed.")
    data = {
        "status": task.status,
        "outcome": task.outcome,
        "error_code": task.error_code,
        "error_message": task.error_message,
        "credits_used": credits_used(task),
        "by": ending.by,
    }
    return events.Event(f"task.{ending.status}", message, level, data)


def credits_used(task: Task) -> int:
    """Return the whole credits a task has used, rounded up (contract, section 7)."""
    return -(-task.charged_microcredits // 1_000_000)


def _completed(task: Task) -> dict[str, Any]:
    result = getattr(task, "result", None)
    return {
        "taskId": str(task.pk),
        "status": task.status,
        "creditsUsed": credits_used(task),
        "result": {
            "type": result.kind if result else None,
            "pullRequestUrl": (result.pull_request_url or None) if result else None,
        },
    }


def _write_analytics(task: Task) -> None:
    steps = Step.objects.filter(task=task, state=Step.State.DONE).aggregate(
        model_calls=Count("pk", filter=Q(kind=Step.Kind.MODEL_CALL)),
        tool_calls=Count("pk", filter=Q(kind=Step.Kind.TOOL_CALL)),
    )
    after = Check.objects.filter(task=task, phase=Check.Phase.AFTER).aggregate(
        checks_passed=Count("pk", filter=Q(verdict=Check.Verdict.PASSED)),
        checks_failed=Count("pk", filter=Q(verdict=Check.Verdict.FAILED)),
    )
    result = getattr(task, "result", None)
    begun, ended = task.started_at or task.completed_at, task.completed_at
    assert begun is not None  # noqa: S101 - _end has set completed_at
    assert ended is not None  # noqa: S101 - _end has set completed_at
    TaskAnalytics.objects.update_or_create(
        task=task,
        defaults={
            "queue_seconds": max((begun - task.created_at).total_seconds(), 0.0),
            "run_seconds": (ended - begun).total_seconds(),
            "lost_attempts": task.lost_attempts,
            "files_changed": len(result.files) if result else 0,
            **steps,
            **after,
        },
    )


def raise_progress(percent: int) -> Any:
    """Return the expression that raises ``progress`` and never lowers it."""
    return Greatest(F("progress"), percent)
