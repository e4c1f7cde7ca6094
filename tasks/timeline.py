"""The rows of a task's timeline, made from its log.

Every event is in exactly one row: a row covers the sequence numbers ``first`` to ``sequence``,
and the rows of a page cover them without gap or overlap. First load, live updates and the page
without JavaScript show the same rows through one template.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from tasks import ansi
from tasks.models import Step, TaskLog

ROWS = 100
"""Events a page of the timeline has at most, streamed text not counted."""
OUTPUT_LINES = 20

TOOL_ICONS = {
    "bash": "term",
    "view": "eye",
    "search": "search",
    "edit": "edit",
    "apply_patch": "edit",
    "plan": "list",
    "finish": "flag",
}
HIDDEN_KINDS = frozenset({"task.progressed"})
WORDS = {
    "task.created": ("Task created", "flag", "idle"),
    "task.started": ("Picked up by a worker", "gear", "idle"),
    "task.cancel_requested": ("Cancel asked for", "stop", "warn"),
    "task.completed": ("Completed", "st-completed", "ok"),
    "task.failed": ("Failed", "st-failed", "bad"),
    "task.cancelled": ("Cancelled", "st-cancelled", "idle"),
}
VERDICTS = {
    "passed": ("st-completed", "ok", "passed"),
    "failed": ("st-failed", "bad", "failed"),
    "not_run": ("st-pending", "idle", "not run"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; ``shape`` is ``step``, ``text``, ``plan``, ``event`` or ``none`` (nothing to see)."""

    first: int
    sequence: int
    shape: str
    at: dt.datetime
    icon: str = ""
    tone: str = "idle"
    label: str = ""
    code: str = ""
    detail: str = ""
    tag: str = ""
    tag_tone: str = ""
    ordinal: int = 0
    is_running: bool = False
    seconds: float | None = None
    output: SafeString | str = ""
    output_lines: int = 0
    cost: int = 0
    tokens: tuple[int, int, int] | None = None


def page_of(task_id: uuid.UUID, *, after: int) -> list[TaskLog]:
    """Return the events after a sequence number: at most ROWS, not counting streamed text."""
    rows: list[TaskLog] = []
    counted = 0
    for row in TaskLog.objects.filter(task_id=task_id, sequence__gt=after).order_by("sequence")[
        : ROWS * 10
    ]:
        rows.append(row)
        counted += row.kind != "model.text"
        if counted >= ROWS:
            break
    return rows


def last_page_of(task_id: uuid.UUID) -> list[TaskLog]:
    """Return the newest events, oldest first."""
    newest = TaskLog.objects.filter(task_id=task_id).order_by("-sequence")[: ROWS * 3]
    return sorted(newest, key=lambda row: row.sequence)


def page_before(task_id: uuid.UUID, *, before: int) -> list[TaskLog]:
    """Return the events just before a sequence number, oldest first."""
    rows = TaskLog.objects.filter(task_id=task_id, sequence__lt=before).order_by("-sequence")
    return sorted(rows[:ROWS], key=lambda row: row.sequence)


def rows_of(task_id: uuid.UUID, log: Sequence[TaskLog]) -> list[Row]:
    """Return the rows for consecutive events; one query asks how long their steps took."""
    settled = {
        row.data["ordinal"]: row.sequence
        for row in log
        if row.kind == "step.finished" and "ordinal" in row.data
    }
    times = _times(task_id, settled)
    rows: list[Row] = []
    for event in log:
        row = _row(event, settled, times)
        if rows and _continues(rows[-1], row):
            row = _joined(rows.pop(), row)
        rows.append(row)
    return rows


def _times(task_id: uuid.UUID, ordinals: Iterable[int]) -> dict[int, float]:
    steps = Step.objects.filter(
        task_id=task_id, ordinal__in=list(ordinals), finished_at__isnull=False
    ).values_list("ordinal", "started_at", "finished_at")
    return {
        ordinal: (finished - started).total_seconds()
        for ordinal, started, finished in steps
        if started and finished
    }


def _continues(last: Row, row: Row) -> bool:
    same_text = last.shape == row.shape == "text" and last.ordinal == row.ordinal
    return same_text or last.shape == row.shape == "none"


def _joined(last: Row, row: Row) -> Row:
    return Row(
        first=last.first,
        sequence=row.sequence,
        shape=row.shape,
        at=last.at,
        ordinal=row.ordinal,
        detail=last.detail + row.detail,
    )


def _row(event: TaskLog, settled: dict[int, int], times: dict[int, float]) -> Row:
    base: dict[str, Any] = {
        "first": event.sequence,
        "sequence": event.sequence,
        "at": event.created_at,
    }
    data = event.data
    ordinal = _number(data.get("ordinal"))
    if event.kind in HIDDEN_KINDS:
        return Row(shape="none", **base)
    if event.kind == "step.started":
        shape = "none" if settled.get(ordinal, 0) > event.sequence else "step"
        return Row(shape=shape, **base, **_started(data, ordinal))
    if event.kind == "step.finished":
        return Row(shape="step", **base, **_finished(data, ordinal, times))
    if event.kind == "model.text":
        return Row(shape="text", **base, ordinal=ordinal, detail=str(data.get("text", "")))
    if event.kind == "task.plan_changed":
        return Row(shape="plan", **base, label=_current_item(data.get("plan")))
    return Row(shape="event", **base, **_event(event))


def _started(data: dict[str, Any], ordinal: int) -> dict[str, Any]:
    return {
        "ordinal": ordinal,
        "icon": "st-running",
        "tone": "run",
        "label": _what(data),
        "is_running": True,
    }


def _finished(data: dict[str, Any], ordinal: int, times: dict[int, float]) -> dict[str, Any]:
    is_call = data.get("kind") == Step.Kind.MODEL_CALL
    lines = str(data.get("output") or "").rstrip().splitlines()
    seconds = data.get("seconds")
    return {
        "ordinal": ordinal,
        "icon": "model" if is_call else TOOL_ICONS.get(str(data.get("name")), "gear"),
        "label": "Model call" if is_call else _what(data),
        "seconds": times.get(ordinal) if seconds is None else seconds,
        "output": ansi.to_html("\n".join(lines[-OUTPUT_LINES:])) if lines else "",
        "output_lines": len(lines),
        "cost": _number(data.get("cost_microcredits")),
        "tokens": _tokens(data) if is_call else None,
        **_exit_tag(data),
    }


def _exit_tag(data: dict[str, Any]) -> dict[str, str]:
    code = data.get("exit_code")
    if code is not None:
        return {"tag": f"exit {code}", "tag_tone": "bad" if code else "ok"}
    return {"tag": "error", "tag_tone": "bad"} if data.get("is_error") else {}


def _tokens(data: dict[str, Any]) -> tuple[int, int, int]:
    names = ("input_tokens", "cached_tokens", "output_tokens")
    first, second, third = (_number(data.get(name)) for name in names)
    return first, second, third


def _what(data: dict[str, Any]) -> str:
    return str(data.get("summary") or data.get("name") or "Step")


def _current_item(plan: Any) -> str:
    """Return the plan's item that is being worked on now; empty when there is none."""
    items = [item for item in plan if isinstance(item, dict)] if isinstance(plan, list) else []
    for number, item in enumerate(items, start=1):
        if item.get("status") == "in_progress":
            return f"{number} {item.get('title', '')}"
    return "Plan done" if items and all(item.get("status") == "done" for item in items) else "Plan"


def _event(event: TaskLog) -> dict[str, Any]:
    data = event.data
    if event.kind == "check.finished":
        return _check(data)
    if event.kind == "checkpoint.made":
        files = _number(data.get("files"))
        detail = f"{files} file{'' if files == 1 else 's'}" if files else ""
        commit = str(data.get("commit", ""))[:10]
        return {"icon": "commit", "label": "Checkpoint", "code": commit, "detail": detail}
    if event.kind in WORDS:
        label, icon, tone = WORDS[event.kind]
        by = f"by {data['by']}" if data.get("by") else ""
        detail = str(data.get("error_message") or by)
        return {"label": label, "icon": icon, "tone": tone, "detail": detail}
    return _told(event)


def _told(event: TaskLog) -> dict[str, Any]:
    """Return the row of an event that its own message explains."""
    tone = {"warning": "warn", "error": "bad"}.get(event.level, "idle")
    icon = {"task.parked": "st-parked", "task.resumed": "gear"}.get(event.kind, "info")
    words = {
        "task.resumed": f"Resumed at step {event.data.get('step', '')} after a lost worker",
        "task.parked": f"Parked until {event.data.get('until', '')}: {event.data.get('reason', '')}",
    }
    return {"icon": icon, "tone": tone, "label": event.message or words.get(event.kind, event.kind)}


def _check(data: dict[str, Any]) -> dict[str, Any]:
    icon, tone, word = VERDICTS.get(str(data.get("verdict")), VERDICTS["not_run"])
    return {
        "icon": icon,
        "tone": tone,
        "label": f"Check {data.get('phase', '')}: {word}",
        "code": str(data.get("command", "")),
        "detail": str(data.get("reason") or ""),
        "seconds": data.get("seconds"),
        **_exit_tag(data),
    }


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
