"""Code smells in Python, by ruff on its own settings (the repository's could hide them all)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.analysis.base import (
    Finding,
    Measured,
    Measurement,
    Severity,
    Unmeasured,
    as_arguments,
    attempt,
    measured,
    python_files,
    relative,
    run_tool,
    version_of,
)
from tasks.sandbox.base import WORKSPACE, Sandbox

SMELLS = ("F", "E7", "E9", "B", "C4", "PIE", "RET", "SIM", "PLE", "PLW", "RUF")
IGNORED = ("RUF001", "RUF002", "RUF003", "RUF012", "RUF100", "PLW1514", "B905", "SIM105", "SIM108")
SECONDS = 120
# Undefined names, comparisons that cannot hold, syntax errors: code that is wrong, not ugly.
HIGH = ("E9", "F5", "F63", "F7", "F82", "PLE", "B006", "B008", "invalid-syntax")
MEDIUM = ("F", "B", "PLW", "E711", "E712", "E722")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One of ruff's diagnostics, with the fix that ruff would make."""

    path: str
    line: int
    rule: str
    message: str
    fix: dict[str, Any] | None = None

    @property
    def is_safe_to_fix(self) -> bool:
        return self.fix is not None and self.fix.get("applicability") == "safe"


def measure(sandbox: Sandbox) -> Measurement:
    """Measure code smells: findings, and their count by rule."""
    return attempt("ruff", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    diagnoses = diagnose(sandbox, python_files(sandbox))
    rules = Counter(diagnosis.rule for diagnosis in diagnoses)
    figures = {
        "rules": dict(sorted(rules.items(), key=lambda item: (-item[1], item[0]))[:50]),
        "fixable": sum(diagnosis.is_safe_to_fix for diagnosis in diagnoses),
    }
    return measured("ruff", version_of(sandbox, "ruff"), map(as_finding, diagnoses), figures)


def diagnose(
    sandbox: Sandbox,
    paths: Sequence[str],
    *,
    rules: Sequence[str] = SMELLS,
    cwd: str = WORKSPACE,
) -> list[Diagnosis]:
    """Return ruff's diagnostics of these files, in order of path and line. Raises Unmeasured."""
    argv = ["ruff", "check", *isolated(rules), "--output-format", "json-lines", "--"]
    result = run_tool(sandbox, [*argv, *as_arguments(paths)], seconds=SECONDS, cwd=cwd)
    if result.is_cut:
        raise Unmeasured("ruff found more than can be read")
    found = [_diagnosis(line, cwd) for line in result.output.splitlines() if line.strip()]
    return sorted(found, key=lambda one: (one.path, one.line, one.rule, one.message))


def isolated(rules: Sequence[str]) -> list[str]:
    """Return the options that make ruff deaf to configuration and leave no trace."""
    return ["--isolated", "--no-cache", "--quiet", "--target-version", "py311",
            "--select", ",".join(rules), "--ignore", ",".join(IGNORED)]  # fmt: skip


def _diagnosis(line: bytes, cwd: str) -> Diagnosis:
    raw = json.loads(line)
    return Diagnosis(
        path=relative(raw["filename"], root=cwd),
        line=int(raw["location"]["row"]),
        rule=raw["code"] or "invalid-syntax",
        message=raw["message"],
        fix=raw.get("fix"),
    )


def as_finding(diagnosis: Diagnosis) -> Finding:
    advice = (diagnosis.fix or {}).get("message") or "Rewrite the line so that the rule holds"
    return Finding(
        path=diagnosis.path,
        line=diagnosis.line,
        rule=diagnosis.rule,
        severity=severity(diagnosis.rule),
        message=diagnosis.message,
        recommendation=f"{advice}.",
        tool="ruff",
    )


def severity(rule: str) -> Severity:
    if rule.startswith(HIGH):
        return "high"
    return "medium" if rule.startswith(MEDIUM) else "low"
