"""The events of tasks and users as they go over a socket (contract.md, section 4)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from channels.db import database_sync_to_async

from accounts.models import FeedEvent, User
from asynccoder.lib.connections import asking
from tasks.live import Encoded
from tasks.models import Check, Status, Task, TaskLog

LAST_KINDS = {
    "task.completed": "completion",
    "task.cancelled": "completion",
    "task.failed": "error",
}
FIGURES = (
    "quality_score", "security_issues", "code_smells", "type_errors", "coverage_percent",
    "recommendations",
)  # fmt: skip
"""What an analysis measures, in S2's words."""
PENDING, INITIALIZING = '"status":"pending"', '"status":"initializing"'


def task_topic(task_id: uuid.UUID) -> str:
    return f"task:{task_id}"


def user_topic(user_id: uuid.UUID) -> str:
    return f"user:{user_id}"


def encode(message: dict[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), default=str)


def stamp(moment: Any) -> str:
    return str(moment.isoformat().replace("+00:00", "Z"))


def shown_status(status: str) -> str:
    """Return a task's status in the words of builds and analyses (S2)."""
    return "initializing" if status == Status.PENDING else status


def in_words_of_work(text: str) -> str:
    """Return an encoded message of a task as a build or an analysis says it."""
    # The first status in a message is its own: what comes from users stands behind it.
    return text.replace(PENDING, INITIALIZING, 1)


class Database:
    """Reads topics from the database; the hub's source."""

    async def after(self, topic: str, sequence: int, limit: int) -> Sequence[Encoded]:
        kind, _, key = topic.partition(":")
        read = _task_events if kind == "task" else _feed_events
        look = database_sync_to_async(asking)
        # Where a request waits for a result (tasks.streams), it runs in the thread that waits.
        found: list[Encoded] = await look(read, uuid.UUID(key), sequence, limit)
        return found

    async def newest(self, topics: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = await database_sync_to_async(asking)(_newest, topics)
        return found


def _newest(topics: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for model, kind in ((Task, "task"), (User, "user")):
        keys = [topic.partition(":")[2] for topic in topics if topic.startswith(f"{kind}:")]
        if keys:
            rows = model.objects.filter(pk__in=keys).values_list("pk", "event_sequence")
            found |= {f"{kind}:{key}": sequence for key, sequence in rows}
    return found


def _feed_events(user_id: uuid.UUID, sequence: int, limit: int) -> list[Encoded]:
    rows = FeedEvent.objects.filter(user_id=user_id, sequence__gt=sequence).order_by("sequence")
    return [
        Encoded(
            row.sequence,
            encode({"event": row.event, "data": row.data, "sequence": row.sequence}),
        )
        for row in rows[:limit]
    ]


def _task_events(task_id: uuid.UUID, sequence: int, limit: int) -> list[Encoded]:
    rows = list(
        TaskLog.objects.filter(task_id=task_id, sequence__gt=sequence).order_by("sequence")[:limit]
    )
    if not rows:
        return []
    task = (
        Task.objects.select_related("result", "analysis")
        .only(
            "status", "progress", "current_step", "outcome", "error_code", "error_message",
            "result__kind", "result__summary", "result__data", "result__files",
            "result__pull_request_url", *(f"analysis__{name}" for name in FIGURES),
        )
        .get(pk=task_id)
    )  # fmt: skip
    return list(_encoded(task, rows))


def _encoded(task: Task, rows: Iterable[TaskLog]) -> Iterable[Encoded]:
    for row in rows:
        kind = LAST_KINDS.get(row.kind)
        message = _ending(task, row, kind) if kind else _progress(task, row)
        yield Encoded(row.sequence, encode(message), is_last=kind is not None, name=_name(row))


def _name(row: TaskLog) -> str:
    """Return what a stream of events calls an event (contract.md, section 3)."""
    if row.kind in LAST_KINDS:
        return "error" if row.kind == "task.failed" else "result"
    if row.kind == "model.text":
        return "token"
    return "progress" if row.kind.startswith(("task.", "step.")) else "log"


def _base(task: Task, row: TaskLog, kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "task_id": str(task.pk),
        "status": task.status,
        "progress": task.progress,
        "sequence": row.sequence,
        "timestamp": stamp(row.created_at),
    }


def _progress(task: Task, row: TaskLog) -> dict[str, Any]:
    """Return a message of the run. An event older than the end is told as it was: running."""
    status = Status.RUNNING if task.is_finished else task.status
    named = {"kind": row.kind, "level": row.level, "message": row.message}
    step = row.data.get("step") or row.data.get("summary") or task.current_step
    data = {**row.data, **named, "current_step": str(step), "files_created": _created(task)}
    if row.data.get("kind"):
        data["step_kind"] = row.data["kind"]
    progress = row.data.get("progress", task.progress)
    return _base(task, row, "progress") | {"status": status, "progress": progress, "data": data}


def _created(task: Task) -> int | None:
    """Return how many files are new; only the result says it."""
    result = getattr(task, "result", None)
    return sum(file.get("status") == "added" for file in result.files) if result else None


def _ending(task: Task, row: TaskLog, kind: str) -> dict[str, Any]:
    message = _base(task, row, kind) | {"data": {"kind": row.kind, "message": row.message}}
    if kind == "error":
        return message | {"error": task.error_message or row.message, "code": task.error_code}
    return message | {"results": results_of(task)}


def results_of(task: Task) -> dict[str, Any]:
    """Return what a task handed back, in S2's words.

    ``checks_after``, where a list of tasks has loaded it, saves a query a task.
    """
    result = getattr(task, "result", None)
    data = result.data if result else {}
    analysis = getattr(task, "analysis", None)
    after = getattr(task, "checks_after", None)
    if after is None:
        after = Check.objects.filter(task=task, phase=Check.Phase.AFTER).only("verdict")
    verdicts = [check.verdict for check in after]
    return {
        "outcome": task.outcome,
        "kind": result.kind if result else None,
        "summary": result.summary if result else "",
        "generated_files": [file.get("path") for file in result.files] if result else [],
        "pull_request_url": (result.pull_request_url or None) if result else None,
        "checks_passed": verdicts.count(Check.Verdict.PASSED),
        "checks_failed": verdicts.count(Check.Verdict.FAILED),
        "tests_passed": data.get("tests_passed"),
        "test_coverage": analysis.coverage_percent if analysis else data.get("test_coverage"),
    } | ({name: getattr(analysis, name) for name in FIGURES} if analysis else {})
