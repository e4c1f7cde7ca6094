"""Append an event to a task's log and announce it after commit.

A sequence number is taken from the counter on the task's row in the same transaction, never from
an auto-increment id: on PostgreSQL a smaller id may commit after a larger one, and a reader of
"after N" would miss it for ever (agent-design, section 2).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from accounts import feed
from asynccoder.lib import bus, counters, redact, storable
from tasks.errors import LeaseLost
from tasks.models import Task, TaskLog

OUTPUT_TAIL = 4_000
"""Characters of a command's output that an event carries; the journal has the whole."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: a kind in the past tense, a line for people, values for programs."""

    kind: str
    message: str = ""
    level: str = "info"
    data: dict[str, Any] = field(default_factory=dict)


def append(
    task_id: uuid.UUID, event: Event, *, generation: int | None = None, **changes: Any
) -> int:
    """Write the event and, with it, changes of the task's row; return its sequence number.

    With a ``generation`` everything is fenced: raises LeaseLost, and writes nothing, when that
    lease is no longer held.
    """
    # Whoever has a transaction open gives it up with us: no point to go back to is needed.
    with transaction.atomic(savepoint=False):
        rows = Task.objects.filter(pk=task_id)
        if generation is not None:
            rows = Task.objects.held(task_id, generation)
        sequence = counters.take(rows, "event_sequence", **changes)
        if sequence is None:
            raise LeaseLost(f"task {task_id} is no longer held by generation {generation}")
        return _write(task_id, event, sequence)


def record(task_id: uuid.UUID, event: Event) -> int:
    """Write the row for a sequence number that the caller has just taken in this transaction."""
    sequence = Task.objects.values_list("event_sequence", flat=True).get(pk=task_id)
    return _write(task_id, event, sequence)


def _write(task_id: uuid.UUID, event: Event, sequence: int) -> int:
    TaskLog.objects.create(
        task_id=task_id,
        sequence=sequence,
        kind=event.kind,
        level=event.level,
        message=storable.text(redact.text(event.message)),
        data=storable.data(_redacted(event.data)),
    )
    transaction.on_commit(lambda: bus.ring(f"task:{task_id}", sequence))
    return sequence


def announce_status(task: Task) -> None:
    """Tell the owner's feed the task's status and progress (S0: task:status_updated)."""
    feed.append(
        user_id=task.owner_id,
        event="task:status_updated",
        data={"taskId": str(task.pk), "status": task.status, "progress": task.progress},
    )


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact.text(value)
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value
