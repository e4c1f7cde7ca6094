"""Safe automatic fixes by ruff, and trying a set of them against failing checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.analysis import checks, ruff
from tasks.analysis.base import Unmeasured, as_arguments, is_test, list_files, run_tool
from tasks.sandbox.base import Command, Sandbox

# Rules whose safe fixes keep what the code means to do; no layout, no import order.
RULES = ("F", "E7", "PLE", "PLW", "B", "C4", "PIE", "SIM", "RET", "UP", "RUF")
PLACE = re.compile(r"(?:File \")?([\w./-]+\.py)(?:\", line |:)(\d+)")
CODE = re.compile(r"\b([A-Z]{1,4}\d{3,4})\b")
SECONDS_AT_LEAST = 30.0


@dataclass(frozen=True, slots=True)
class Fix:
    """Some rules' safe fixes in some files."""

    rules: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What the failing checks said with a fix in place."""

    cured: tuple[str, ...]
    changed: tuple[str, ...]
    seconds: float

    @staticmethod
    def from_data(data: dict[str, Any]) -> Trial:
        return Trial(tuple(data["cured"]), tuple(data["changed"]), data["seconds"])


@dataclass(frozen=True, slots=True)
class Candidate:
    """One diagnostic that ruff would fix safely."""

    rule: str
    path: str
    line: int
    message: str


def find_candidates(sandbox: Sandbox, failing: Sequence[checks.CheckRecord]) -> list[Candidate]:
    """Return what could be fixed, most likely causes first. Raises Unmeasured.

    Tests are left as they are, unless a linter is what fails.
    """
    linters = [check for check in failing if check.command.startswith("ruff")]
    paths = [path for path in list_files(sandbox).python if linters or not is_test(path)]
    if not paths:
        raise Unmeasured("there is no Python code to fix")
    named = sorted({code for check in linters for code in CODE.findall(check.output)})
    found = [
        Candidate(one.rule, one.path, one.line, one.message)
        for one in ruff.diagnose(sandbox, paths, rules=(*RULES, *_known(sandbox, named)))
        if one.is_safe_to_fix
    ]
    near = places(failing)
    return sorted(found, key=lambda one: (_distance(one, near), one.rule, one.path, one.line))


def _known(sandbox: Sandbox, codes: Sequence[str]) -> list[str]:
    """Keep the codes that ruff knows; one that it does not would end it."""
    return [
        code
        for code in codes
        if sandbox.run(Command(["ruff", "rule", code], seconds=20)).exit_code == 0
    ]


def places(failing: Sequence[checks.CheckRecord]) -> dict[str, list[int]]:
    """Return the files and lines that failing checks name, such as those of a traceback."""
    found: dict[str, list[int]] = {}
    for check in failing:
        for path, line in PLACE.findall(check.output):
            path = path.removeprefix("/workspace/").removeprefix("./")
            found.setdefault(path, []).append(int(line))
    return found


def _distance(one: Candidate, near: dict[str, list[int]]) -> tuple[int, int]:
    """Return a rank: wrong code before ugly code, and near the failure before far from it."""
    severity = ("high", "medium", "low").index(ruff.severity(one.rule))
    if one.path not in near:
        return severity, 100_000
    return severity, min(abs(one.line - line) for line in near[one.path])


def try_fix(sandbox: Sandbox, fix: Fix, failing: Sequence[checks.CheckRecord]) -> dict[str, Any]:
    """Apply a fix, run the failing checks, and put the files back; return a Trial's fields."""
    originals = _read(sandbox, fix.paths)
    changed: list[str] = []
    cured: list[str] = []
    seconds = 0.0
    try:
        changed = apply(sandbox, fix, originals)
        for check in failing if changed else ():
            limit = max(SECONDS_AT_LEAST, 1.5 * check.seconds)
            record = checks.run(sandbox, check.command, seconds=limit)
            seconds += record.seconds
            if record.verdict == "passed":
                cured.append(check.command)
    finally:
        for path in changed:
            sandbox.write(path, originals[path])
    return asdict(Trial(tuple(cured), tuple(changed), round(seconds, 2)))


def apply(sandbox: Sandbox, fix: Fix, originals: dict[str, bytes] | None = None) -> list[str]:
    """Let ruff fix the files; return those that changed. Raises Unmeasured."""
    if originals is None:
        originals = _read(sandbox, fix.paths)
    argv = ["ruff", "check", "--fix-only", *ruff.isolated(fix.rules), "--"]
    run_tool(sandbox, [*argv, *as_arguments(fix.paths)], seconds=ruff.SECONDS)
    return [path for path, before in originals.items() if sandbox.read(path) != before]


def _read(sandbox: Sandbox, paths: Sequence[str]) -> dict[str, bytes]:
    try:
        return {path: sandbox.read(path) for path in paths}
    except (OSError, ValueError) as error:
        raise Unmeasured("a file that ruff would fix cannot be read") from error
