"""How many tests passed and how much they cover, as far as a check's own words tell it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.analysis.checks import CheckRecord

CARGO = re.compile(r"^test result: \w+\. (\d+) passed", re.MULTILINE)
COUNTED = re.compile(r"\b(\d+) (?:passed|passing)\b")
UNITTEST = re.compile(r"^Ran (\d+) tests? in [\d.]+s\s+^(OK|FAILED)(?: \((.*)\))?$", re.MULTILINE)
NOT_PASSED = re.compile(r"\b(?:failures|errors|skipped|expected failures)=(\d+)")
COVERAGE = re.compile(r"^TOTAL\s+.*?(\d+(?:\.\d+)?)%", re.MULTILINE)


def passed_tests(records: Iterable[CheckRecord]) -> int | None:
    """Return how many tests passed in all checks together, or None where none says."""
    found = [_passed(one.output) for one in records if one.verdict != "not_run"]
    known = [count for count in found if count is not None]
    return sum(known) if known else None


def coverage_percent(records: Iterable[CheckRecord]) -> float | None:
    """Return the percentage of the last coverage report among the checks, or None without one."""
    found = [one for record in records for one in COVERAGE.findall(record.output)]
    return float(found[-1]) if found and float(found[-1]) <= 100 else None


def _passed(output: str) -> int | None:
    if suites := CARGO.findall(output):
        return sum(map(int, suites))
    if counts := COUNTED.findall(output):
        return int(counts[-1])
    if runs := UNITTEST.findall(output):
        count, _, others = runs[-1]
        return max(0, int(count) - sum(map(int, NOT_PASSED.findall(others))))
    return None
