"""One step of the journal in full, a page of lines at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import Http404
from django.utils.safestring import SafeString

from tasks import ansi
from tasks.models import Step, Task

PAGE_LINES = 1_000


@dataclass(frozen=True, slots=True)
class ShownStep:
    """A step, its input, and the lines ``first`` to ``last`` of its output."""

    step: Step
    input: SafeString
    calls: Sequence[tuple[str, SafeString]]
    lines: Sequence[tuple[int, SafeString]]
    first: int
    last: int
    total: int

    @property
    def next(self) -> int:
        return self.last + 1 if self.last < self.total else 0

    @property
    def previous(self) -> int:
        return max(1, self.first - PAGE_LINES) if self.first > 1 else 0

    @property
    def seconds(self) -> float | None:
        begun, ended = self.step.started_at, self.step.finished_at
        return (ended - begun).total_seconds() if begun and ended else None


def newest(task: Task, ordinal: int) -> Step:
    """Return a step's newest attempt, or raise Http404."""
    step = Step.objects.filter(task=task, ordinal=ordinal).order_by("-attempt").first()
    if step is None:
        raise Http404
    return step


def step_of(task: Task, ordinal: int, *, first: int) -> ShownStep:
    """Return the step with a page of its output, from line ``first`` on."""
    step = newest(task, ordinal)
    lines = output_of(step).splitlines()
    page = lines[first - 1 : first - 1 + PAGE_LINES]
    return ShownStep(
        step=step,
        input=ansi.to_html(_pretty(step.input)),
        calls=_calls(step),
        lines=[(first + at, ansi.to_html(line)) for at, line in enumerate(page)],
        first=first,
        last=first - 1 + len(page),
        total=len(lines),
    )


def output_of(step: Step) -> str:
    """Return the step's whole output: the artifact where there is one, else the outcome's text."""
    artifact = step.artifacts.order_by("created_at").first()
    if artifact is not None:
        return bytes(artifact.body).decode("utf-8", "replace")
    return str(_outcome(step).get("text", step.outcome))


def _outcome(step: Step) -> dict[str, Any]:
    try:
        found = json.loads(step.outcome)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _calls(step: Step) -> list[tuple[str, SafeString]]:
    """Return the tool calls that a model's answer asked for."""
    calls = _outcome(step).get("tool_calls") or []
    return [
        (str(call.get("name", "")), ansi.to_html(_pretty(str(call.get("arguments", "")))))
        for call in calls
        if isinstance(call, dict)
    ]


def _pretty(text: str) -> str:
    """Return JSON arguments as lines of ``name: value``; other text as it is."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if not isinstance(found, dict):
        return text
    return "\n".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in found.items()
    )
