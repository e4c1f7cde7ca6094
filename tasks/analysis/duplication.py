"""Duplicated blocks of code, in any language, by comparing lines."""

from __future__ import annotations

from typing import Any

from tasks.analysis.base import (
    OWN_RULES,
    Finding,
    Measured,
    Measurement,
    Unmeasured,
    attempt,
    list_files,
    measured,
    run_script,
)
from tasks.sandbox.base import Sandbox

LEAST = 8
"""Significant lines that make a block; fewer are often chance."""


def measure(sandbox: Sandbox) -> Measurement:
    """Measure duplicated blocks and their share of the lines that count."""
    return attempt("duplication", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    paths = list_files(sandbox).sources
    if not paths:
        raise Unmeasured("there is no source code in a known language")
    answer = run_script(sandbox, "duplication", {"paths": paths, "least": LEAST})
    blocks, lines = answer["blocks"], answer["lines"]
    doubled = sum(block["lines"] for block in blocks)
    figures = {
        "blocks": len(blocks),
        "lines": doubled,
        "percent": round(100 * doubled / lines, 1) if lines else 0.0,
    }
    return measured("duplication", OWN_RULES, map(_finding, blocks), figures)


def _finding(block: dict[str, Any]) -> Finding:
    twin = f"{block['twin']}:{block['twin_line']}"
    return Finding(
        path=block["path"],
        line=block["line"],
        rule="duplicate",
        severity="low",
        message=f"{block['lines']} lines are the same as at {twin}",
        recommendation="Move the shared lines into one function.",
        tool="duplication",
    )
