"""A run that goes round in circles is told once, with the evidence, and then ended as blocked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aimodels.providers.scripted import ScriptedModel, call
from tasks.agent.budget import AgentLimits
from tasks.agent.stuck import StuckWatch, act
from tasks.tests.agent_bench import MemoryBench, play, write_tree

DONE = {"status": "done", "summary": "The sign was wrong.", "evidence": "ran it", "cause": "a - b"}
FIX = call("edit", path="calc.py", old="a - b", new="a + b")
ENDING = [FIX, call("finish", **DONE), call("finish", **DONE)]
SAME = call("bash", command="cat calc.py")
FAILING = call("bash", command="date +%N; false")


@pytest.fixture
def bench(tmp_path: Path) -> MemoryBench:
    return MemoryBench(
        write_tree(tmp_path / "repo", {"calc.py": "def add(a, b):\n    return a - b\n"})
    )


def watched(*acts: tuple[str, str, bool]) -> str:
    watch = StuckWatch()
    for name, result, is_error in acts:
        watch.saw(act("bash", name, result, is_error=is_error))
    return watch.evidence()


@pytest.mark.parametrize(
    ("acts", "words"),
    [
        ([("a", "x", False)] * 4, "same result 4 times"),
        ([("a", "in 0.31s", False), ("a", "in 0.32s", False)] * 2, "same result 4 times"),
        ([("a", "x", True), ("a", "y", True), ("a", "z", True)], "failed 3 times"),
        ([("a", "x", False), ("b", "y", True)] * 3, "take turns"),
    ],
)
def test_circles_are_seen(acts: list[tuple[str, str, bool]], words: str) -> None:
    assert words in watched(*acts)


@pytest.mark.parametrize(
    "acts",
    [
        [("a", "x", False)] * 3,
        [("a", "x", True)] * 2,
        [("a", "x", False), ("a", "y", False), ("a", "z", False), ("a", "w", False)],
        [("a", "x", False), ("b", "y", False)] * 2 + [("a", "x", False)],
        [
            ("a", "x", True),
            ("b", "y", False),
            ("a", "x", True),
            ("c", "y", False),
            ("a", "x", True),
        ],
        [("a", "x", False), ("b", "y", False), ("c", "z", False)] * 2,
    ],
)
def test_honest_work_is_no_circle(acts: list[tuple[str, str, bool]]) -> None:
    assert watched(*acts) == ""


@pytest.mark.parametrize(("step", "times"), [(SAME, 4), (FAILING, 3)])
def test_the_model_is_told_once_and_may_recover(
    bench: MemoryBench, step: dict[str, Any], times: int
) -> None:
    model = ScriptedModel([step] * times + ENDING)
    assert play(bench, model).status == "done"
    told = ["going round in circles" in request.history[-1] for request in model.requests]
    assert told.index(True) == times
    assert sum(told) == 1
    evidence = "cat calc.py" if step is SAME else "date +%N; false"
    assert evidence in model.requests[times].history[-1]


@pytest.mark.parametrize(("step", "times"), [(SAME, 8), (FAILING, 6)])
def test_a_run_that_goes_on_like_that_is_blocked(
    bench: MemoryBench, step: dict[str, Any], times: int
) -> None:
    model = ScriptedModel([step] * 50)
    result = play(bench, model)
    assert result.status == "blocked"
    assert "times" in result.summary
    assert len(model.requests) == times


def test_the_same_broken_call_again_and_again_counts_too(bench: MemoryBench) -> None:
    wrong = call("edit", path="calc.py", old="nothing like it", new="x")
    model = ScriptedModel([wrong] * 50)
    assert play(bench, model).status == "blocked"
    assert len(model.requests) == 6


def test_edits_that_lead_nowhere_are_seen_by_the_difference(bench: MemoryBench) -> None:
    there = call("edit", path="calc.py", old="a - b", new="a * b")
    back = call("edit", path="calc.py", old="a * b", new="a - b")
    look = [call("bash", command=f"echo {number}") for number in range(200)]
    script: list[dict[str, Any]] = []
    for number in range(100):
        script += [there if number % 2 == 0 else back, look[number]]
    model = ScriptedModel(script)
    result = play(bench, model)
    assert result.status == "blocked"
    assert "changing steps" in result.summary
    assert len(model.requests) < 150


def test_edits_that_lead_somewhere_are_fine(bench: MemoryBench) -> None:
    edits = [
        call("edit", path=f"new{number}.py", old="", new=f"X = {number}\n") for number in range(40)
    ]
    assert play(bench, [*edits, *ENDING]).status == "done"


def test_the_limits_decide_what_counts_as_a_circle() -> None:
    acts = [act("bash", "a", "x", is_error=False)] * 2
    strict, usual = StuckWatch(AgentLimits(same_results=2)), StuckWatch()
    for watch in (strict, usual):
        for one in acts:
            watch.saw(one)
    assert "same result 2 times" in strict.evidence()
    assert usual.evidence() == ""
