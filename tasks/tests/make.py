"""Builders of rows, with keyword overrides."""

from __future__ import annotations

from typing import Any

from django.db.models import F

from accounts.models import User
from aimodels.models import AIModel
from billing import ledger
from repositories.models import Repository
from tasks.models import Step, Task, TaskLog, TaskType


def make_model(**values: Any) -> AIModel:
    defaults = {"provider": "builtin", "name": "builtin", "display_name": "Built-in engine"}
    values = defaults | values
    free = {"input_price": 0, "cached_input_price": 0, "output_price": 0}
    model, _ = AIModel.objects.get_or_create(
        provider=values["provider"],
        name=values["name"],
        defaults=free | {"capabilities": TaskType.values} | values,
    )
    return model


def make_repository(*, owner: User, **values: Any) -> Repository:
    name = values.pop("name", f"ledgerly-{Repository.objects.count()}")
    defaults = {"name": name, "full_name": name, "url": f"https://git.example.com/{name}.git"}
    return Repository.objects.create(owner=owner, **(defaults | values))


def make_task(*, owner: User, held: int = 0, **values: Any) -> Task:
    """Write a task with its hold (microcredits), as ``lifecycle.create_task`` does."""
    defaults: dict[str, Any] = {"type": TaskType.DEBUG, "title": "Fix it", "prompt": "Fix it"}
    if "model" not in values:
        values["model"] = make_model()
    if "repository" not in values:
        values["repository"] = make_repository(owner=owner)
    task = Task.objects.create(owner=owner, **(defaults | values))
    ledger.hold(
        user_id=owner.pk, microcredits=held, reference=f"task:{task.pk}", description="Held"
    )
    return task


def make_log(task: Task, **values: Any) -> TaskLog:
    """Write an event of a task under its next sequence number."""
    Task.objects.filter(pk=task.pk).update(event_sequence=F("event_sequence") + 1)
    task.refresh_from_db(fields=["event_sequence"])
    defaults = {"kind": "log.written", "sequence": task.event_sequence}
    return TaskLog.objects.create(task=task, **(defaults | values))


def make_step(task: Task, **values: Any) -> Step:
    defaults: dict[str, Any] = {
        "ordinal": task.steps.count() + 1,
        "kind": Step.Kind.TOOL_CALL,
        "name": "bash",
        "state": Step.State.DONE,
        "generation": task.generation,
        "input_digest": "0" * 64,
    }
    return Step.objects.create(task=task, **(defaults | values))
