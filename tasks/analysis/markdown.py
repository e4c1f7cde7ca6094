"""An analysis as a readable report. What comes from the repository is text, never markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.analysis.base import Finding
from tasks.analysis.report import Report

LISTED = 25
UNMEASURED = "not measured"


def text(value: object) -> str:
    """Return a stranger's text so that it can stand in a line or a cell of a table."""
    parts = " ".join(str(value).split()).replace("``", "`").split("`")
    if len(parts) % 2 == 0:  # An odd number of marks: none of them opens code.
        return _escaped("'".join(parts))
    return "".join(code(part) if index % 2 else _escaped(part) for index, part in enumerate(parts))


def _escaped(line: str) -> str:
    return re.sub(r"([\\|*_\[\]#])", r"\\\1", line).replace("<", "&lt;")


def code(value: object) -> str:
    """Return a stranger's text as inline code."""
    line = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{line}`"


def place(path: str, line: int) -> str:
    """Return a place as ``path:line``."""
    return code(f"{path}:{line}")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; cells must be safe already."""
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)


def figure(value: object, unit: str = "") -> str:
    """Return a figure, or "not measured" for None, never 0."""
    return UNMEASURED if value is None else f"{value}{unit}"


def report(measured: Report, *, title: str) -> str:
    """Return the whole report."""
    data = measured.data()
    sections = [
        f"# {title}",
        _summary(data),
        _list("Recommendations", [text(one) for one in data["recommendations"]]),
        _findings("Security issues", measured.security or []),
        _findings("Code smells", measured.findings("ruff")),
        _findings("Type errors", measured.findings("mypy")),
        _complexity(data["complexity"] or []),
        _findings("Duplicated code", measured.findings("duplication")),
        _findings("Undocumented code", measured.findings("docstrings")),
        _tools(data),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _summary(data: dict[str, Any]) -> str:
    counts = data["security_counts"]
    security = ", ".join(f"{count} {level}" for level, count in (counts or {}).items() if count)
    rows = [
        ("Quality", figure(data["quality_score"], " of 10")),
        ("Security issues", UNMEASURED if counts is None else security or "none found"),
        ("Code smells", figure(data["code_smells"])),
        ("Type errors", figure(data["type_errors"])),
        ("Test coverage", figure(data["coverage_percent"], " %")),
        ("Functions above complexity 10", figure(data["complex_functions"])),
        ("Duplicated lines", figure(data["duplication"], " %")),
        ("Documented public code", figure(data["documented_percent"], " %")),
        ("Files, lines", f"{figure(data['files'])}, {figure(data['lines'])}"),
    ]
    return table(("Figure", "Value"), rows)


def _list(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _findings(title: str, findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    more = len(findings) - LISTED
    rest = f"\n\nand {more} more." if more > 0 else ""
    return f"## {title}\n\n{findings_table(findings[:LISTED])}{rest}"


def findings_table(findings: Iterable[Finding]) -> str:
    """Return findings as a table of place, severity, rule and what to do."""
    return table(
        ("Place", "Severity", "Rule", "What", "What to do"),
        [
            (place(one.path, one.line), one.severity, code(one.rule), text(one.message),
             text(one.recommendation))
            for one in findings
        ],
    )  # fmt: skip


def _complexity(worst: Sequence[dict[str, Any]]) -> str:
    rows = [
        (place(one["path"], one["line"]), code(one["name"]), one["complexity"], one["lines"])
        for one in worst[:10]
    ]
    if not rows:
        return ""
    heads = ("Place", "Function", "Complexity", "Lines")
    return f"## Most complex functions\n\n{table(heads, rows)}"


def _tools(data: dict[str, Any]) -> str:
    rows = [(name, text(version)) for name, version in data["tools"].items()]
    rows += [(name, f"{UNMEASURED}: {text(why)}") for name, why in data["not_measured"].items()]
    return f"## Tools\n\n{table(('Tool', 'Version'), rows)}"
