"""Steps of the built-in engine: each is journalled, and its outcome is JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.agent.ports import Bench, ToolResult
from tasks.analysis.base import Measured, Measurement, Unmeasured, from_json, to_json

LISTED = 20
"""How many findings of one analyser the timeline shows; the report has them all."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a step is called, and what makes it the same step again on resume."""

    name: str
    summary: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    counted: str = ""
    """A noun: the summary then says how many of them the step's data holds."""
    changes: bool = False


def compute(bench: Bench, work: Work, effect: Callable[[], Any]) -> Any:
    """Run a step whose effect gives JSON data. Raises Unmeasured, also again on resume."""

    def journalled() -> ToolResult:
        try:
            data = effect()
        except Unmeasured as reason:
            kept = json.dumps({"unmeasured": str(reason)})
            summary = f"{work.summary}: {reason}"
            return ToolResult(str(reason), is_error=True, summary=summary, data=kept)
        counted = f": {plural(len(data), work.counted)}" if work.counted else ""
        summary = f"{work.summary}{counted}"
        return ToolResult(summary, summary=summary, data=json.dumps({"data": data}))

    result = bench.journal.tool_call(
        name=work.name,
        arguments=json.dumps(work.arguments, sort_keys=True),
        changes=work.changes,
        effect=journalled,
        label=work.summary,
    )
    outcome = json.loads(result.data)
    if "unmeasured" in outcome:
        raise Unmeasured(outcome["unmeasured"])
    return outcome["data"]


def measure(bench: Bench, name: str, title: str, effect: Callable[[], Measurement]) -> Measurement:
    """Run an analyser as a step."""

    def journalled() -> ToolResult:
        measurement = effect()
        kept = to_json(measurement)
        if isinstance(measurement, Measured):
            summary = f"{title}: {_count(measurement)}"
            return ToolResult(_listed(measurement) or summary, summary=summary, data=kept)
        summary = f"{title}: not measured, {measurement.reason}"
        return ToolResult(measurement.reason, summary=summary, data=kept)

    result = bench.journal.tool_call(
        name=name, arguments="{}", changes=False, effect=journalled, label=title
    )
    return from_json(result.data)


def _listed(measurement: Measured) -> str:
    """Return the first findings as lines for people."""
    found = measurement.findings
    lines = [f"{one.path}:{one.line}  {one.rule}  {one.message}" for one in found[:LISTED]]
    more = [f"… and {len(found) - LISTED} more"] if len(found) > LISTED else []
    return "\n".join([*lines, *more])


def _count(measurement: Measured) -> str:
    figures = measurement.figures
    if "percent" in figures:
        return f"{figures['percent']} %"
    if "files" in figures:
        return f"{plural(figures['files'], 'file')}, {plural(figures['lines'], 'line')}"
    return plural(figures["count"], "finding")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Checklist:
    """The plan that people see, and the share of it that is done."""

    bench: Bench
    titles: Sequence[str]
    start: int = 10
    """The progress in percent at which the first item begins."""
    end: int = 95

    def begin(self, index: int) -> None:
        """Show that an item has begun, and with it that those before are done."""
        states = ["done"] * index + ["in_progress"] + ["pending"] * (len(self.titles) - index - 1)
        self.bench.set_plan(list(zip(self.titles, states, strict=True)))
        percent = self.start + (self.end - self.start) * index // len(self.titles)
        self.bench.set_progress(percent, self.titles[index])

    def finish(self) -> None:
        self.bench.set_plan([(title, "done") for title in self.titles])
        self.bench.set_progress(self.end, "Done")
