"""Type errors in Python, by mypy without the repository's configuration and plugins.

Installed packages are left out, so that the figure is the same wherever the platform runs;
what is imported from them counts as untyped.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tasks.analysis.base import (
    Finding,
    Measured,
    Measurement,
    Unmeasured,
    as_arguments,
    attempt,
    last_line,
    measured,
    python_files,
    relative,
    version_of,
)
from tasks.sandbox.base import WORKSPACE, Command, CommandResult, Sandbox

SECONDS = 300
"""For all runs together: a file that mypy refuses costs one more run."""
BLOCKERS = 5
"""Files that mypy may refuse (syntax errors) before we give up."""
BLOCKED_BY = re.compile(r"^(?:\./)?(?P<path>[^:\n]+\.py)(?::\d+)*: error:", re.MULTILINE)
BAD_NAME = re.compile(r"(?P<name>\S+) is not a valid Python package name")
OPTIONS = (
    "--config-file=/dev/null --cache-dir=/dev/null --no-incremental --no-site-packages"
    " --ignore-missing-imports --check-untyped-defs --namespace-packages --explicit-package-bases"
    " --disable-error-code=var-annotated --no-error-summary --no-color-output --output=json --show-error-codes"
)
Report = tuple[list[Finding], list[str]]


def measure(sandbox: Sandbox) -> Measurement:
    """Measure type errors: findings, their count by code, and the files that mypy refused."""
    return attempt("mypy", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    findings, refused = check(sandbox, python_files(sandbox))
    codes = Counter(finding.rule for finding in findings)
    figures = {"codes": dict(sorted(codes.items())), "refused": refused}
    return measured("mypy", version_of(sandbox, "mypy"), findings, figures)


def check(sandbox: Sandbox, paths: Sequence[str]) -> Report:
    """Return the errors, and the files left out because mypy refused them. Raises Unmeasured."""
    left, refused, seconds = list(paths), list[str](), 0.0
    for _ in range(BLOCKERS + 1):
        result = _run(sandbox, left, seconds=SECONDS - seconds)
        seconds += result.seconds
        if result.exit_code in (0, 1):
            return _parse(result), refused
        culprit = _culprit(result, left)
        refused += culprit
        left = [path for path in left if path not in culprit]
        if not left or seconds >= SECONDS:
            break
    raise Unmeasured(f"mypy refused too many files: {', '.join(refused[:3])}")


def _run(sandbox: Sandbox, paths: Sequence[str], *, seconds: float) -> CommandResult:
    env = {"MYPYPATH": "src", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    argv = ["mypy", *OPTIONS.split(), "--", *as_arguments(paths)]
    result = sandbox.run(
        Command(argv=argv, seconds=seconds, env=env, keep=16 * 1024**2, errors_apart=True)
    )
    if result.stopped:
        raise Unmeasured(f"mypy was stopped ({result.stopped}) after {result.seconds:.0f} s")
    if result.exit_code == 127:
        raise Unmeasured("mypy is not installed")
    if result.exit_code not in (0, 1, 2):
        raise Unmeasured(f"mypy failed: {last_line(result)}")
    return result


def _culprit(result: CommandResult, paths: Sequence[str]) -> list[str]:
    """Return the files that made mypy give up. Raises Unmeasured where it names none."""
    said = result.text + result.errors.decode("utf-8", "replace")
    named = {relative(found["path"]) for found in BLOCKED_BY.finditer(said)}
    named |= {finding.path for finding in _parse(result)}
    wrong = {found["name"].strip("'\"") for found in BAD_NAME.finditer(said)}
    culprits = [path for path in paths if path in named or wrong & set(path.split("/"))]
    if not culprits:
        raise Unmeasured(f"mypy failed: {last_line(result)}")
    return culprits


def _parse(result: CommandResult) -> list[Finding]:
    rows = [line for line in result.output.splitlines() if line.startswith(b"{")]
    return [_finding(row) for row in map(json.loads, rows) if row.get("severity") == "error"]


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(
        path=relative(row["file"], root=WORKSPACE),
        line=max(int(row["line"]), 1),
        rule=row.get("code") or "error",
        severity="medium",
        message=row["message"],
        recommendation=row.get("hint") or "Make the types agree, or narrow the value first.",
        tool="mypy",
    )
