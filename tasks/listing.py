"""The task list: filters, and pages by keyset (no count, no offset)."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from accounts.models import User
from tasks.models import TERMINAL, Task

PAGE = 25


@dataclass(frozen=True, slots=True)
class Page:
    tasks: list[Task]
    after: str
    """The cursor of the next page, empty on the last one."""


def filtered(user: User, values: dict[str, Any]) -> Any:
    """Return the user's tasks that fit the filter form's values, newest first."""
    tasks = (
        Task.objects.visible_to(user)
        .select_related("repository", "model", "owner")
        .order_by("-created_at", "-id")
    )
    if values.get("q"):
        tasks = tasks.filter(title__icontains=values["q"])
    if values.get("type"):
        tasks = tasks.filter(type=values["type"])
    if values.get("repository"):
        tasks = tasks.filter(repository=values["repository"])
    return _of_status(tasks, values.get("status") or "")


def _of_status(tasks: Any, status: str) -> Any:
    if status == "open":
        return tasks.open()
    if status == "ended":
        return tasks.filter(status__in=TERMINAL)
    return tasks.filter(status=status) if status else tasks


def page_of(tasks: Any, after: str) -> Page:
    """Return the page behind a cursor; a cursor that cannot be read means the first page."""
    place = _place(after)
    if place is not None:
        moment, last = place
        tasks = tasks.filter(created_at__lte=moment).filter(
            Q(created_at__lt=moment) | Q(created_at=moment, id__lt=last)
        )
    rows = list(tasks[: PAGE + 1])
    shown = rows[:PAGE]
    return Page(shown, cursor_of(shown[-1]) if len(rows) > PAGE else "")


def cursor_of(task: Task) -> str:
    return f"{task.created_at.isoformat()}_{task.pk}"


def _place(after: str) -> tuple[dt.datetime, uuid.UUID] | None:
    moment, _, last = after.partition("_")
    try:
        parsed = dt.datetime.fromisoformat(moment.replace(" ", "+"))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)), uuid.UUID(last)
    except ValueError:
        return None
