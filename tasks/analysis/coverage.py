"""How much of the Python code its own tests run, where they can run here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tasks.analysis import checks
from tasks.analysis.base import (
    Finding,
    Measured,
    Measurement,
    Unmeasured,
    attempt,
    measured,
    python_files,
    version_of,
)
from tasks.analysis.verdicts import judge
from tasks.sandbox.base import WORKSPACE, Command, Sandbox

SECONDS = 600
MARK = "----- coverage report -----"
LISTED = 20
UNTESTED = 5
"""Files that no test touches, named as findings."""
# One command, so that nothing has to outlive it: run the tests, then print the report.
SCRIPT = f"""
set -u
data=$(mktemp)
python -m coverage run --rcfile=/dev/null --data-file="$data" --source=. \\
  --omit='*/tests/*,*/test_*.py,*_test.py,tests.py,conftest.py,*/conftest.py,setup.py,docs/*' "$@"
code=$?
echo; echo '{MARK}'
python -m coverage json --ignore-errors --rcfile=/dev/null --data-file="$data" --quiet -o - 2>&1
rm -f "$data"
exit $code
"""


def measure(sandbox: Sandbox) -> Measurement:
    """Measure the percentage of statements that the repository's tests run."""
    return attempt("coverage", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    python_files(sandbox)
    command = _tests(sandbox)
    version = version_of(sandbox, "coverage")
    report = _run(sandbox, command)
    totals = report["totals"]
    if not totals["num_statements"]:
        raise Unmeasured("the tests ran none of the repository's own code")
    files = sorted(
        (round(one["summary"]["percent_covered"], 1), path)
        for path, one in report["files"].items()
        if one["summary"]["num_statements"]
    )
    figures = {
        "percent": round(totals["percent_covered"], 1),
        "statements": totals["num_statements"],
        "missing": totals["missing_lines"],
        "least_covered": [{"path": path, "percent": percent} for percent, path in files[:LISTED]],
    }
    untested = [path for percent, path in files if percent == 0]
    return measured("coverage", version, map(_finding, untested[:UNTESTED]), figures)


def _tests(sandbox: Sandbox) -> Sequence[str]:
    """Return the detected test command as arguments of ``coverage run``."""
    for command in checks.detect(sandbox):
        if command.startswith("python -m "):
            return command.split()[1:]
    raise Unmeasured("there are no Python tests")


def _run(sandbox: Sandbox, arguments: Sequence[str]) -> Any:
    tree = checks.tree_of(sandbox)
    command = Command(
        argv=["bash", "-c", SCRIPT, "coverage", *arguments],
        seconds=SECONDS,
        env={**checks.ENVIRONMENT, **checks.python_path(tree)},
        keep=16 * 1024**2,
    )
    result = sandbox.run(command)
    said, _, report = result.text.rpartition(MARK)
    verdict, reason = judge(
        " ".join(arguments), result, is_ours=lambda name: checks.is_own_module(tree, name)
    )
    if result.stopped or verdict == "not_run":
        raise Unmeasured(f"the tests could not run: {reason}")
    if "pytest" in arguments and result.exit_code not in (0, 1):
        raise Unmeasured("the tests could not be collected")
    # Warnings about the repository's code may stand before the report, which is one line.
    lines = (report.strip() or said.strip()).splitlines() or ["no output"]
    try:
        return json.loads(lines[-1])
    except ValueError as error:
        raise Unmeasured(f"no report: {lines[-1][:200]}") from error


def _finding(path: str) -> Finding:
    path = path.removeprefix(f"{WORKSPACE}/")
    message, advice = "No test runs this file", "Test what it promises, its errors first."
    return Finding(path, 1, "untested", "low", message, advice)
