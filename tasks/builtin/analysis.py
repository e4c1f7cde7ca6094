"""Analysis: every analyser as a step of its own, then one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.agent.ports import Assignment, Bench, Handback
from tasks.analysis import markdown
from tasks.analysis.base import Measurement
from tasks.analysis.report import ANALYSERS, PARTS, Analyser, Report, measure_all
from tasks.builtin import steps


def analyse(assignment: Assignment, bench: Bench) -> Handback:
    """Measure the repository and report; data has the contract's fields of an analysis."""
    report = run_analysers(bench, parts=parts_asked_for(assignment))
    data = report.data()
    title = f"Analysis of {assignment.repository}"
    return Handback(
        status="done",
        summary=_summary(report),
        content=markdown.report(report, title=markdown.text(title)),
        data=data,
    )


def parts_asked_for(assignment: Assignment) -> tuple[str, ...]:
    """Return the types of analysis that the request names; all without a name."""
    asked = assignment.parameters.get("analysis_types")
    if not isinstance(asked, list):
        return PARTS
    return tuple(part for part in PARTS if part in asked) or PARTS


def run_analysers(bench: Bench, *, parts: Sequence[str] = PARTS) -> Report:
    """Run the analysers of these parts as journalled steps, with plan and progress."""
    chosen = [one for one in ANALYSERS if not one.part or one.part in parts]
    checklist = steps.Checklist(bench, [one.title for one in chosen])

    def on_step(analyser: Analyser, effect: Callable[[], Measurement]) -> Measurement:
        checklist.begin(chosen.index(analyser))
        return steps.measure(bench, analyser.name, analyser.title, effect)

    report = measure_all(bench.sandbox, parts=parts, on_step=on_step)
    checklist.finish()
    return report


def _summary(report: Report) -> str:
    data = report.data()
    counts = report.security_counts
    figures = [
        f"Quality {markdown.figure(data['quality_score'], ' of 10')}",
        _counted(None if counts is None else sum(counts.values()), "security issue"),
        _counted(data["code_smells"], "code smell"),
        _counted(data["type_errors"], "type error"),
        f"coverage {markdown.figure(data['coverage_percent'], ' %')}",
    ]
    return ", ".join(figure for figure in figures if figure) + "."


def _counted(count: int | None, noun: str) -> str:
    return "" if count is None else steps.plural(count, noun)
