"""Which public Python is undocumented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from tasks.analysis.base import (
    OWN_RULES,
    Finding,
    Measured,
    Measurement,
    Unmeasured,
    attempt,
    is_test,
    measured,
    python_files,
    run_script,
)
from tasks.sandbox.base import Sandbox

Module = dict[str, Any]


def measure(sandbox: Sandbox) -> Measurement:
    """Measure the share of public modules, classes and functions that say what they do."""
    return attempt("docstrings", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    modules = outline(sandbox, [path for path in python_files(sandbox) if not is_test(path)])
    findings = [finding for module in modules for finding in _findings(module)]
    public = sum(bool(module["items"]) + len(public_items(module)) for module in modules)
    if not public:
        raise Unmeasured("there is no public Python besides tests")
    figures = {
        "public": public,
        "undocumented": len(findings),
        "documented_percent": round(100 * (public - len(findings)) / public, 1),
    }
    return measured("docstrings", OWN_RULES, findings, figures)


def outline(sandbox: Sandbox, paths: Sequence[str]) -> list[Module]:
    """Return the outline of Python files (see inside/outline.py). Raises Unmeasured."""
    return cast(list[Module], run_script(sandbox, "outline", {"paths": list(paths)}))


def public_items(module: Module) -> list[dict[str, Any]]:
    return [item for item in module["items"] if item["public"]]


def _findings(module: Module) -> list[Finding]:
    silent = [item for item in public_items(module) if not item["doc"]]
    found = [_finding(module["path"], item["line"], item["kind"], item["name"]) for item in silent]
    if module["items"] and not module["doc"]:
        found.append(_finding(module["path"], 1, "module", module["path"]))
    return found


def _finding(path: str, line: int, kind: str, name: str) -> Finding:
    message = f"The {kind} {name} has no docstring"
    advice = "Say in one sentence what it does and what it raises."
    return Finding(path, line, f"undocumented-{kind}", "low", message, advice)
