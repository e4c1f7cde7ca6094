"""What a check finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    verdict: Verdict
    message: str


Check = Callable[[], Iterator[Finding]]


def ok(message: str) -> Finding:
    return Finding(Verdict.OK, message)


def warning(message: str) -> Finding:
    return Finding(Verdict.WARNING, message)


def failed(message: str) -> Finding:
    return Finding(Verdict.FAILED, message)


def examine(check: Check) -> list[Finding]:
    """Return what a check finds; a check that breaks has failed, and the next ones still run."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:  # noqa: BLE001 - whatever is wrong here is what the doctor reports
        found.append(failed(f"this check broke off: {type(error).__name__}."))
    return found
