from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.report import Series, interleave, judge, judge_figure
from benchmarks.signin import z_of


def test_cases_take_turns_and_the_first_round_is_forgotten() -> None:
    turns: list[str] = []

    def measure(case: str, value: float) -> list[float]:
        turns.append(case)
        return [value * len(turns)]

    cases = {"ours": lambda: measure("ours", 1), "peer": lambda: measure("peer", 1)}
    series = interleave(cases, bench="made up", rounds=2)
    assert turns == ["ours", "peer"] * 3
    assert series["ours"].rounds == [[3], [5]]
    assert series["peer"].medians() == [4, 6]


def test_a_case_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Series("made up", "ours", [[1, 2, 3], [2, 3, 40]], cpu_ms=[5, 7]).print()
    assert json.loads(capsys.readouterr().out) == {
        "bench": "made up", "case": "ours", "unit": "ms", "n": 6, "rounds": 2,
        "p50": 2.5, "p99": 40, "cpu_ms": 6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "yardstick", "is_met", "said"),
    [
        ([1, 2, 3], [10, 10, 10], True, True),
        ([5, 6, 7], [10, 10, 10], False, False),
        ([5, 6, 7], [10, 10, 31], True, None),
    ],
    ids=["met", "missed", "noisy"],
)
def test_a_ratio_is_judged(
    capsys: pytest.CaptureFixture[str],
    ours: list[float],
    yardstick: list[float],
    *,
    is_met: bool,
    said: bool | None,
) -> None:
    assert judge("step", ours, yardstick, goal=0.35, against="peer") is is_met
    assert json.loads(capsys.readouterr().out)["ok"] is said


def test_a_figure_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge_figure("p99", 24.9, goal=25)
    assert not judge_figure("p99", 25.1, goal=25)
    assert '"ok": false' in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'nothing'" in done.stderr


def test_two_samples_are_told_apart_by_their_ranks() -> None:
    assert z_of([1, 4, 5, 8], [2, 3, 6, 7]) == 0
    # U = 0 of 25, the standard deviation is the root of 5 * 5 * 11 / 12.
    assert z_of([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(-2.611, abs=0.001)
