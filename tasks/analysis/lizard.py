"""Complexity and size of functions in many languages, by lizard."""

from __future__ import annotations

import csv
import io
from typing import Any

from tasks.analysis.base import (
    Finding,
    Measured,
    Measurement,
    Severity,
    Unmeasured,
    as_arguments,
    attempt,
    list_files,
    measured,
    relative,
    run_tool,
    version_of,
)
from tasks.sandbox.base import Sandbox

SECONDS = 180
COMPLEX = 10
"""A cyclomatic complexity above this is a finding (McCabe's own limit)."""
VERY_COMPLEX = 20
LONG = 80
"""Lines of code above which a function is a finding."""
LISTED = 20
COUNTED = (
    ".py .js .jsx .mjs .cjs .ts .tsx .java .kt .go .rs .c .h .cc .cpp .hpp .cs .rb .php .swift"
    " .scala .lua"
)
Function = dict[str, Any]


def measure(sandbox: Sandbox) -> Measurement:
    """Measure functions: how many, how complex, how long, and the worst by name."""
    return attempt("lizard", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    functions = list_functions(sandbox)
    complex_ones = [one for one in functions if one["complexity"] > COMPLEX]
    worst = sorted(functions, key=lambda one: (-one["complexity"], one["path"], one["line"]))
    total = len(functions)
    figures = {
        "functions": total,
        "complex": len(complex_ones),
        "complex_share": round(len(complex_ones) / total, 4) if total else 0.0,
        "mean_complexity": round(sum(one["complexity"] for one in functions) / total, 2)
        if total
        else None,
        "worst": worst[:LISTED],
    }
    findings = [finding for one in functions for finding in _findings(one)]
    return measured("lizard", version_of(sandbox, "lizard"), findings, figures)


def list_functions(sandbox: Sandbox) -> list[Function]:
    """Return every function with path, line, complexity, length and parameters."""
    paths = [path for path in list_files(sandbox).sources if path.endswith(tuple(COUNTED.split()))]
    if not paths:
        raise Unmeasured("there is no source code in a language that lizard knows")
    result = run_tool(sandbox, ["lizard", "--csv", *as_arguments(paths)], seconds=SECONDS)
    rows = csv.reader(io.StringIO(result.text))
    return [_function(row) for row in rows if len(row) >= 11]


def _function(row: list[str]) -> Function:
    return {
        "path": relative(row[6]),
        "line": int(row[9]),
        "name": row[7][:120],
        "complexity": int(row[1]),
        "lines": int(row[0]),
        "parameters": int(row[3]),
    }


def _findings(one: Function) -> list[Finding]:
    found = []
    if one["complexity"] > COMPLEX:
        level: Severity = "medium" if one["complexity"] > VERY_COMPLEX else "low"
        message = f"{one['name']} has a cyclomatic complexity of {one['complexity']}"
        advice = "Extract the branches into functions of their own."
        found.append(Finding(one["path"], one["line"], "complexity", level, message, advice))
    if one["lines"] > LONG:
        message = f"{one['name']} is {one['lines']} lines long"
        advice = "Extract the steps into functions of their own."
        found.append(Finding(one["path"], one["line"], "length", "low", message, advice))
    return found
