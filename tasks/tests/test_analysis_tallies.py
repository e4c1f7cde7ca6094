"""What a check's own words say of its tests."""

from __future__ import annotations

import pytest

from tasks.analysis.checks import CheckRecord
from tasks.analysis.tallies import coverage_percent, passed_tests

PYTEST = "....F\n1 failed, 12 passed, 2 warnings in 0.41s"
UNITTEST = "Ran 9 tests in 0.010s\n\nFAILED (failures=2, errors=1, skipped=1)\n"
CARGO = "test result: ok. 3 passed; 0 failed\n\nDoc-tests\ntest result: ok. 2 passed; 0 failed; 0 ignored"


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (["======= 12 passed in 0.41s ======="], 12),
        ([PYTEST], 12),
        (["Ran 4 tests in 0.001s\n\nOK\n"], 4),
        ([UNITTEST], 5),
        ([CARGO], 5),
        (["  14 passing (20ms)"], 14),
        (["Tests:       1 failed, 7 passed, 8 total"], 7),
        (["All checks passed!"], None),
        ([], None),
        ([PYTEST, "Success: no issues found in 3 source files"], 12),
        ([PYTEST, CARGO], 17),
    ],
)
def test_passed_tests_are_counted(outputs: list[str], expected: int | None) -> None:
    records = [CheckRecord("check", "passed", output=output) for output in outputs]
    assert passed_tests(records) == expected


def test_a_check_that_did_not_run_counts_nothing() -> None:
    assert passed_tests([CheckRecord("check", "not_run", output=PYTEST)]) is None


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("app.py 10 0 100%\nTOTAL      120     15    88%\n12 passed", 88.0),
        ("TOTAL 120 15 30 2 87.5%", 87.5),
        ("TOTAL 1 1 900%", None),
        ("12 passed", None),
    ],
)
def test_coverage_is_that_of_the_report(output: str, expected: float | None) -> None:
    assert coverage_percent([CheckRecord("check", "passed", output=output)]) == expected
