"""Whether a check passed, failed, or could not be run, from its exit code and known signs.

A check that could not run is never "passed"; one that ran and could not be understood is
"failed". What a missing dependency looks like is told apart from what broken code looks like:
only a module that the repository does not hold itself counts as missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from tasks.sandbox.base import CommandResult

Verdict = Literal["passed", "failed", "not_run"]
Judgement = tuple[Verdict, str]
IsOurs = Callable[[str], bool]
"""Tells whether a module's top name belongs to the repository."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PYTEST = re.compile(r"\b(pytest|py\.test)\b")
MISSING_MODULE = re.compile(r"No module named ['\"]?([A-Za-z0-9_.]+)")
RAISED = re.compile(
    r"^(?:E\s+)?((?:\w+\.)*\w*(?:Error|Exception|Exit))(?::[ \t]*(.*))?$", re.MULTILINE
)
# unittest wraps the import error of a test module in one of its own.
WRAPPED = "Failed to import test module"
ONLY_SKIPPED = re.compile(
    r"^=*\s*(?:\d+ (?:skipped|deselected|warnings?),? ?)+in [\d.]+s", re.MULTILINE
)
NOT_STARTED = (
    (re.compile(r"error: unrecognized arguments: (.+)"), "pytest does not know {}; a plugin is missing"),
    (re.compile(r"Missing required plugins: (.+)"), "pytest's plugin is missing: {}"),
    (re.compile(r"ERROR: (file or directory not found: .+)"), "{}"),
    (re.compile(r"Missing script: (.+)"), "npm has no script {}"),
    (re.compile(r"Error: no test specified()"), "package.json specifies no test"),
    (re.compile(r"No rule to make target [`'\"](\S+)['\"]"), "the Makefile has no target {}"),
    (re.compile(r"make: \*\*\* .* Error 127()"), "a program that make needs is not installed"),
    (re.compile(r"(?:sh|bash): (?:line )?\d+: (\S+): (?:command )?not found"), "{} is not installed"),
    (re.compile(r"Cannot find module '([^'./][^']*)'"), "the package {} is not installed"),
    (re.compile(r"Error importing plugin \"(\S+)\""), "mypy's plugin {} is not installed"),
    (re.compile(r"no required module provides package (\S+)"), "the module {} is not downloaded"),
    (re.compile(r"dial tcp: lookup (\S+)"), "the network is off and {} is needed"),
    (re.compile(r"(?:failed to download|no matching package named) `?([\w-]+)"), "the crate {} is not downloaded"),
)  # fmt: skip


def judge(command: str, result: CommandResult, *, is_ours: IsOurs) -> Judgement:
    """Return the verdict of a command that has ended, and the reason where it needs one."""
    if result.stopped:
        return _stopped(result)
    said = ESCAPES.sub("", result.text)
    if result.exit_code == 0:
        return _succeeded(said)
    if result.exit_code in (126, 127):
        return "not_run", f"command not found: {_program(said, command)}"
    if PYTEST.search(command):
        early = _pytest(result.exit_code, said)
        if early:
            return early
    missing = missing_module(said, is_ours=is_ours)
    if missing:
        return "not_run", f"the module {missing} is not installed"
    return _unstarted(said) or ("failed", "")


def _stopped(result: CommandResult) -> Judgement:
    if result.stopped == "cancelled":
        return "not_run", "cancelled"
    if result.stopped == "timeout":
        return "failed", f"took longer than {result.seconds:.0f} s"
    return "failed", f"stopped by the {result.stopped} limit"


def _succeeded(said: str) -> Judgement:
    if re.search(r"^Ran 0 tests in ", said, re.MULTILINE):
        return "not_run", "there are no tests"
    if ONLY_SKIPPED.search(said):
        return "not_run", "every test was skipped"
    return "passed", ""


def _pytest(exit_code: int, said: str) -> Judgement | None:
    if exit_code == 5:
        return "not_run", "there are no tests"
    if exit_code == 3:
        return "not_run", "pytest itself broke"
    return None


def _program(said: str, command: str) -> str:
    found = re.search(r"(\S+): (?:command )?not found", said)
    return found[1] if found else command.split()[0] if command.split() else command


def _unstarted(said: str) -> Judgement | None:
    if "passed" in said:
        return None
    for sign, reason in NOT_STARTED:
        found = sign.search(said)
        if found:
            return "not_run", reason.format(found[1].strip()[:120])
    return None


def missing_module(said: str, *, is_ours: IsOurs) -> str:
    """Return the third-party module whose absence explains all errors, or ""."""
    if re.search(r"\b[1-9]\d* passed\b", said):
        return ""
    raised = [(name.split(".")[-1], text) for name, text in RAISED.findall(said)]
    if not raised:
        # ``python -m x`` says it without a traceback.
        found = re.search(r"python\S*: " + MISSING_MODULE.pattern, said)
        return found[1] if found and not is_ours(found[1].split(".")[0]) else ""
    absent = ""
    for name, text in raised:
        found = MISSING_MODULE.search(text)
        if name == "ModuleNotFoundError" and found and not is_ours(found[1].split(".")[0]):
            absent = absent or found[1]
        elif not (name == "ImportError" and WRAPPED in text):
            return ""
    return absent


def is_worse(before: Verdict, after: Verdict) -> bool:
    """Tell whether a check says less good things than before; hiding a failure is worse too."""
    return after not in ("passed", before)
