"""All analysers in one pass, and what their figures say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.analysis import (
    bandit,
    coverage,
    docstrings,
    duplication,
    lizard,
    mypy,
    ruff,
    score,
    secrets,
    size,
)
from tasks.analysis.base import SEVERITIES, Finding, Measured, Measurement, NotMeasured, order
from tasks.sandbox.base import Sandbox

LISTED = 100
"""Findings in a report, by severity; the counts are of all."""


@dataclass(frozen=True, slots=True)
class Analyser:
    """One analyser: the tool's name, what it does for people, and the type of analysis it serves."""

    name: str
    title: str
    part: str
    measure: Callable[[Sandbox], Measurement]


ANALYSERS = (
    Analyser("size", "Count files and lines", "", size.measure),
    Analyser("ruff", "Look for code smells", "quality", ruff.measure),
    Analyser("lizard", "Measure complexity", "quality", lizard.measure),
    Analyser("duplication", "Look for duplicated code", "quality", duplication.measure),
    Analyser("docstrings", "Look for undocumented code", "quality", docstrings.measure),
    Analyser("bandit", "Look for security issues", "security", bandit.measure),
    Analyser("secrets", "Look for credentials", "security", secrets.measure),
    Analyser("mypy", "Check types", "types", mypy.measure),
    Analyser("coverage", "Run the tests and measure coverage", "quality", coverage.measure),
)
PARTS = ("quality", "security", "types")
OnStep = Callable[[Analyser, Callable[[], Measurement]], Measurement]


@dataclass(frozen=True, slots=True)
class Report:
    """What every analyser said, by its name; None for an analyser that was not asked for."""

    measurements: Mapping[str, Measurement]

    def figure(self, tool: str, name: str) -> Any:
        """Return a figure, or None where the tool did not measure."""
        measurement = self.measurements.get(tool)
        return measurement.figures.get(name) if isinstance(measurement, Measured) else None

    def findings(self, *tools: str) -> list[Finding]:
        """Return the findings of these tools (or all), worst first."""
        return sorted(
            (
                finding
                for name, one in self.measurements.items()
                if isinstance(one, Measured) and (not tools or name in tools)
                for finding in one.findings
            ),
            key=order,
        )

    @property
    def not_measured(self) -> dict[str, str]:
        return {
            name: one.reason
            for name, one in self.measurements.items()
            if isinstance(one, NotMeasured)
        }

    @property
    def tools(self) -> dict[str, str]:
        return {
            name: one.version
            for name, one in self.measurements.items()
            if isinstance(one, Measured)
        }

    @property
    def security(self) -> list[Finding] | None:
        """Return security findings without those that two tools saw, or None if none looked."""
        if not self.tools.keys() & {"bandit", "secrets"}:
            return None
        seen: set[tuple[str, int]] = {
            (finding.path, finding.line) for finding in self.findings("secrets")
        }
        passwords = ("B105", "B106", "B107")
        return [
            finding
            for finding in self.findings("bandit", "secrets")
            if finding.rule not in passwords or (finding.path, finding.line) not in seen
        ]

    @property
    def security_counts(self) -> dict[str, int] | None:
        """Return how many issues of each severity there are, or None if none looked."""
        listed = self.security
        if listed is None:
            return None
        twice = [one for one in self.findings("bandit", "secrets") if one not in listed]
        return {
            level: sum(self.figure(tool, level) or 0 for tool in ("bandit", "secrets"))
            - sum(one.severity == level for one in twice)
            for level in SEVERITIES
        }

    @property
    def figures(self) -> score.Figures:
        """Return what the score is made of."""
        counts = self.security_counts
        return score.Figures(
            lines=self.figure("size", "code_lines") or 0,
            smells=self.figure("ruff", "count"),
            complex_share=self.figure("lizard", "complex_share"),
            type_errors=self.figure("mypy", "count"),
            security=(counts["high"], counts["medium"], counts["low"]) if counts else None,
            coverage_percent=self.figure("coverage", "percent"),
        )

    def data(self) -> dict[str, Any]:
        """Return the result of an analysis (the contract's fields and our own beside them)."""
        figures = self.figures
        return {
            "quality_score": score.quality_score(figures),
            "security_issues": [_issue(one) for one in (self.security or [])[:LISTED]],
            "security_counts": self.security_counts,
            "code_smells": figures.smells,
            "type_errors": figures.type_errors,
            "coverage_percent": figures.coverage_percent,
            "recommendations": recommend(self),
            "tools": self.tools,
            "not_measured": self.not_measured,
            "files": self.figure("size", "files"),
            "lines": self.figure("size", "lines"),
            "languages": self.figure("size", "languages"),
            "complexity": self.figure("lizard", "worst"),
            "complex_functions": self.figure("lizard", "complex"),
            "functions": self.figure("lizard", "functions"),
            "duplication": self.figure("duplication", "percent"),
            "documented_percent": self.figure("docstrings", "documented_percent"),
            "smells_by_rule": self.figure("ruff", "rules"),
            "findings": [asdict(one) for one in self.findings()[:LISTED]],
        }


def measure_all(
    sandbox: Sandbox, *, parts: Sequence[str] = PARTS, on_step: OnStep | None = None
) -> Report:
    """Run every analyser that serves these parts.

    ``on_step`` is given the analyser and the call that measures, and returns its measurement:
    the place to journal it. Raises SandboxLost; an analyser that fails is part of the report.
    """
    chosen = [one for one in ANALYSERS if not one.part or one.part in parts]
    measurements: dict[str, Measurement] = {}
    for analyser in chosen:

        def effect(analyser: Analyser = analyser) -> Measurement:
            return analyser.measure(sandbox)

        measurements[analyser.name] = on_step(analyser, effect) if on_step else effect()
    for analyser in ANALYSERS:
        if analyser not in chosen:
            measurements[analyser.name] = NotMeasured(analyser.name, "not asked for")
    return Report(measurements)


def _issue(finding: Finding) -> dict[str, Any]:
    return {
        "issue": finding.message,
        "severity": finding.severity,
        "confidence": finding.confidence,
        "path": finding.path,
        "line": finding.line,
        "rule": finding.rule,
        "recommendation": finding.recommendation,
    }


def recommend(report: Report) -> list[str]:
    """Return what to do first, most pressing first, each with a place or a figure."""
    advice = [_recommend_security(report), _recommend_smells(report), _recommend_types(report)]
    worst = (report.figure("lizard", "worst") or [None])[0]
    if worst and worst["complexity"] > lizard.COMPLEX:
        count = report.figure("lizard", "complex")
        advice.append(
            f"Extract complex methods: cyclomatic complexity is above {lizard.COMPLEX} in {count} of"
            f" {report.figure('lizard', 'functions')} functions, most of all `{worst['name']}`"
            f" ({worst['path']}:{worst['line']}, {worst['complexity']})."
        )
    advice += [_recommend_coverage(report), _recommend_docstrings(report)]
    duplicated = report.figure("duplication", "percent")
    if duplicated and duplicated >= 3:
        advice.append(f"Merge duplicated code: {duplicated} % of the lines are copies.")
    return [one for one in advice if one]


def _recommend_security(report: Report) -> str:
    counts = report.security_counts
    if not counts or not counts["high"] + counts["medium"]:
        return ""
    first = (report.security or [])[0]
    return (
        f"Fix the security issues of high or medium severity ({counts['high'] + counts['medium']}), first"
        f" {first.path}:{first.line}. {first.recommendation}"
    )


def _recommend_smells(report: Report) -> str:
    wrong = [one for one in report.findings("ruff") if one.severity == "high"]
    if wrong:
        first = wrong[0]
        return f"Correct code that cannot work as written: {first.path}:{first.line} ({first.message})."
    fixable = report.figure("ruff", "fixable")
    return f"Let ruff fix by itself what it safely can ({fixable} code smells)." if fixable else ""


def _recommend_types(report: Report) -> str:
    found = report.findings("mypy")
    if not found:
        return ""
    first = found[0]
    count = report.figure("mypy", "count")
    return f"Resolve the type errors ({count}), first {first.path}:{first.line} ({first.message})."


def _recommend_coverage(report: Report) -> str:
    percent = report.figure("coverage", "percent")
    if percent is None:
        reason = report.not_measured.get("coverage", "")
        return "Add tests: there are none." if reason == "there are no Python tests" else ""
    least = (report.figure("coverage", "least_covered") or [None])[0]
    if percent >= 80 or not least:
        return ""
    return (
        f"Test more: {percent} % is covered, least of all {least['path']} ({least['percent']} %)."
    )


def _recommend_docstrings(report: Report) -> str:
    silent = report.figure("docstrings", "undocumented")
    if not silent:
        return ""
    public = report.figure("docstrings", "public")
    return f"Add docstrings to public functions and classes: {silent} of {public} have none."
