"""A run that is killed at any step goes on from the journal to the same result."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aimodels.providers.base import ContextOverflow, MalformedReply
from aimodels.providers.scripted import ScriptedModel, call
from tasks.agent.budget import AgentLimits
from tasks.agent.ports import Handback
from tasks.tests.agent_bench import (
    Killed,
    MemoryBench,
    MemoryJournal,
    play,
    tree_of,
    write_tree,
)

FILES = {"calc.py": "def add(a, b):\n    return a - b\n", "ok.py": "X = 1\n"}
CHECKS = ["python3 -B -c 'import ok; assert ok.X == 1'"]
DONE = {"status": "done", "summary": "The sign was wrong.", "evidence": "ran it", "cause": "a - b"}
FINISH = call("finish", **DONE)
FIX = call("edit", path="calc.py", old="a - b", new="a + b")
BREAK = call("bash", command="sed -i s/1/2/ ok.py && echo broke it")
MEND = call(
    "apply_patch",
    patch="*** Begin Patch\n*** Update File: ok.py\n@@\n-X = 2\n+X = 1\n*** End Patch",
)
PLAIN: Sequence[Any] = [
    call("view", path="calc.py"),
    {"text": "two at once", "tool_calls": [*FIX["tool_calls"], *BREAK["tool_calls"]]},
    {"text": "no call at all"},
    call("finish", status="done", summary="too little", evidence=""),
    FINISH,
    FINISH,
    MEND,
    FINISH,
]
CUT = MalformedReply("cut")
HARD: Sequence[Any] = [
    [CUT, call("bash", command="seq 1 3000")],
    call("bash", command="seq 1 2999"),
    [ContextOverflow("too long"), call("bash", command="false")],
    call("bash", command="false"),
    call("bash", command="false"),
    FIX,
    FINISH,
    FINISH,
]


def attempt(
    folder: Path, journal: MemoryJournal, model: ScriptedModel
) -> tuple[Handback, MemoryBench]:
    """Run in a fresh copy of what the journal's last checkpoint holds."""
    shutil.rmtree(folder, ignore_errors=True)
    base = {name: content.encode() for name, content in FILES.items()}
    tree = journal.last_tree()
    write_tree(folder, base if tree is None else tree)
    journal.position = 0
    bench = MemoryBench(folder, journal, checks=CHECKS, base=base)
    bench.run_checks(phase="before")
    limits = AgentLimits(context_window=8_000, output_characters=6_000, wrap_up_seconds=0.5)
    return play(bench, model, limits=limits), bench


def killed_and_resumed(
    tmp_path: Path, script: Sequence[Any], step: int, *, after_effect: bool
) -> tuple[Handback, MemoryBench, MemoryJournal]:
    journal = MemoryJournal(kill_at=step, kill_after_effect=after_effect)
    model = ScriptedModel(script)
    with pytest.raises(Killed):
        attempt(tmp_path / "first", journal, model)
    assert len(journal.steps) == step - 1
    journal.kill_at = None
    result, bench = attempt(tmp_path / "second", journal, model)
    return result, bench, journal


def steps_of(tmp_path: Path, script: Sequence[Any]) -> tuple[int, Handback, MemoryBench, int]:
    journal = MemoryJournal()
    result, bench = attempt(tmp_path / "whole", journal, ScriptedModel(script))
    return len(journal.steps), result, bench, journal.live_calls


@pytest.mark.parametrize(
    "after_effect", [False, True], ids=["before the effect", "before the record"]
)
def test_a_run_killed_at_any_step_comes_to_the_same_result(
    tmp_path: Path, after_effect: bool
) -> None:
    steps, expected, whole, calls = steps_of(tmp_path, PLAIN)
    assert steps == 8 + 8 + 3  # replies, tool calls, checks
    assert whole.results["after"][0].verdict == "passed"
    for step in range(2, steps + 1):
        result, bench, journal = killed_and_resumed(
            tmp_path, PLAIN, step, after_effect=after_effect
        )
        assert result == expected, f"killed at step {step}"
        assert tree_of(bench.root) == tree_of(whole.root)
        was_call = journal.steps[step - 1]["kind"] == "model"
        assert journal.live_calls == calls + was_call


def test_a_run_with_cut_replies_overflow_and_warnings_is_resumed_too(tmp_path: Path) -> None:
    steps, expected, whole, _ = steps_of(tmp_path, HARD)
    kinds = [step.get("error") for step in whole.journal.steps]
    assert "MalformedReply" in kinds
    assert "ContextOverflow" in kinds
    for step in range(2, steps + 1):
        result, bench, _ = killed_and_resumed(tmp_path, HARD, step, after_effect=False)
        assert result == expected, f"killed at step {step}"
        assert tree_of(bench.root) == tree_of(whole.root)


def test_a_finished_run_that_is_run_again_calls_no_model_and_changes_nothing(
    tmp_path: Path,
) -> None:
    journal = MemoryJournal()
    first, bench = attempt(tmp_path / "first", journal, ScriptedModel(PLAIN))
    steps, calls = len(journal.steps), journal.live_calls
    model = ScriptedModel([])
    again, _ = attempt(tmp_path / "second", journal, model)
    assert again == first
    assert (len(journal.steps), journal.live_calls, model.requests) == (steps, calls, [])
    assert tree_of(tmp_path / "second") == tree_of(bench.root)


def test_the_time_of_the_first_run_decides_in_the_second(tmp_path: Path) -> None:
    """A clock that runs on between the attempts must not change what was said to the model."""
    idle = [call("bash", command=f"echo {number}") for number in range(3)]
    script = [*idle, FIX, FINISH, FINISH]
    root = write_tree(tmp_path / "one", FILES)
    journal = MemoryJournal(kill_at=5)
    bench = MemoryBench(root, journal)
    with pytest.raises(Killed):
        play(bench, script)
    journal.kill_at, journal.position = None, 0
    later = MemoryBench(root, journal, base=bench.base)
    later.clock = lambda: 2000.0
    model = ScriptedModel(script)
    assert play(later, model).status == "done"
    said = ["nearly over" in request.history[-1] for request in model.requests]
    assert said == [False, True, False, False]
