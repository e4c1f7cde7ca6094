"""What the page may claim: checks that the platform ran, and calls that the ledger was charged.

A tick is drawn from a ``Check`` row only; what the agent says about tests is text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from tasks import ansi
from tasks.models import Check, Step, Task
from tasks.timeline import VERDICTS


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command, with its proof."""

    icon: str
    tone: str
    word: str
    exit_code: int | None
    seconds: float
    reason: str
    commit: str
    output: SafeString


@dataclass(frozen=True, slots=True)
class Proof:
    """A command before and after the work; ``None`` where it was not run at all."""

    command: str
    before: Run | None
    after: Run | None

    @property
    def is_worse(self) -> bool:
        """Tell whether it passed before and fails now."""
        return bool(self.before and self.after) and self.words == ("passed", "failed")

    @property
    def words(self) -> tuple[str, str]:
        return (self.before.word if self.before else "", self.after.word if self.after else "")


def proofs_of(checks: Iterable[Check]) -> list[Proof]:
    """Return each command's newest run before and after, in the order they were first run."""
    newest: dict[str, dict[str, Run]] = {}
    for check in checks:
        newest.setdefault(check.command, {})[check.phase] = _run(check)
    return [
        Proof(command, runs.get(Check.Phase.BEFORE), runs.get(Check.Phase.AFTER))
        for command, runs in newest.items()
    ]


def _run(check: Check) -> Run:
    icon, tone, word = VERDICTS[check.verdict]
    return Run(
        icon, tone, word, check.exit_code, check.seconds, check.reason, check.commit[:10],
        ansi.to_html(check.output),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bill:
    """The model calls of a task; ``other`` is what was charged and is not one of them."""

    calls: Sequence[Step]
    total: int
    other: int


def bill_of(task: Task, steps: Iterable[Step]) -> Bill:
    """Return the calls with what each cost; they and ``other`` add up to what was charged."""
    calls = [step for step in steps if step.kind == Step.Kind.MODEL_CALL]
    paid = sum(step.cost_microcredits for step in calls)
    return Bill(calls, task.charged_microcredits, task.charged_microcredits - paid)


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark of a review on one line."""

    path: str
    line: str
    severity: str
    text: str
    suggestion: str

    @property
    def is_serious(self) -> bool:
        return self.severity.lower() in ("high", "critical")


def findings_of(data: dict[str, Any]) -> list[Finding]:
    """Return a review's findings, whatever its engine called them; other results have none."""
    found = data.get("findings") or data.get("comments")
    items = found if isinstance(found, list) else []
    return [_finding(item) for item in items if isinstance(item, dict)]


def _finding(item: dict[str, Any]) -> Finding:
    text = [first(item, "title"), first(item, "message", "body", "text"), first(item, "failure")]
    return Finding(
        path=first(item, "path", "file"),
        line=first(item, "line", "start_line"),
        severity=first(item, "severity", "level"),
        text="\n".join(dict.fromkeys(part for part in text if part)),
        suggestion=first(item, "suggestion", "suggested_change"),
    )


def first(item: dict[str, Any], *names: str) -> str:
    """Return the first of the values that is there, as text."""
    return next((str(item[name]) for name in names if item.get(name)), "")
