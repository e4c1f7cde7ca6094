"""The loop from the first message to the result, with a scripted model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aimodels.providers.base import MalformedReply, ProviderBusy, Request, Usage
from aimodels.providers.scripted import ScriptedModel, call
from tasks.agent.budget import AgentLimits
from tasks.agent.errors import ModelGaveUp, OutOfBudget
from tasks.tests.agent_bench import MemoryBench, play, write_tree

BUGGY = {"calc.py": "def add(a, b):\n    return a - b\n"}
CHECK = "python3 -B -c 'import calc; assert calc.add(2, 3) == 5'"
FIX = call("edit", path="calc.py", old="a - b", new="a + b")
DONE = {"status": "done", "summary": "The sign was wrong.", "evidence": "ran it", "cause": "a - b"}
FINISH = call("finish", **DONE)


@pytest.fixture
def bench(tmp_path: Path) -> MemoryBench:
    return MemoryBench(write_tree(tmp_path / "repo", BUGGY))


def last_message(model: ScriptedModel, request: int = -1) -> str:
    return model.requests[request].history[-1]


def test_a_fault_is_found_mended_reviewed_and_handed_back(bench: MemoryBench) -> None:
    model = ScriptedModel([call("view", path="calc.py"), FIX, FINISH, FINISH])
    result = play(bench, model)
    assert result.status == "done"
    assert (bench.root / "calc.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert result.data["files"] == [
        {"path": "calc.py", "status": "modified", "added": 1, "removed": 1}
    ]
    assert result.data["details"] == {"cause": "a - b"}
    assert "### Cause" in result.content
    assert bench.journal.names() == ["view", "edit", "finish", "finish"]


def test_the_first_finish_is_answered_with_the_diff_and_the_checklist(bench: MemoryBench) -> None:
    model = ScriptedModel([FIX, FINISH, FINISH])
    play(bench, model)
    answer = last_message(model)
    assert "+    return a + b" in answer
    assert "Other callers" in answer


def test_what_the_model_mends_after_the_review_counts(bench: MemoryBench) -> None:
    late = call("edit", path="calc.py", old="return a + b", new="return b + a")
    play(bench, [FIX, FINISH, late, FINISH])
    assert "b + a" in (bench.root / "calc.py").read_text()


def test_a_second_finish_in_the_same_reply_does_not_count(
    bench: MemoryBench,
) -> None:
    twice = {"tool_calls": FINISH["tool_calls"] * 2}
    model = ScriptedModel([FIX, twice, FINISH])
    assert play(bench, model).status == "done"
    assert len(model.requests) == 3


def test_done_without_a_change_is_refused(bench: MemoryBench) -> None:
    nothing = {**DONE, "status": "no_change_needed"}
    model = ScriptedModel([FINISH, call("finish", **nothing), call("finish", **nothing)])
    assert play(bench, model).status == "no_change_needed"
    assert "No file differs" in last_message(model, 1)


def test_no_change_needed_with_a_change_is_refused(bench: MemoryBench) -> None:
    lie = {**DONE, "status": "no_change_needed"}
    model = ScriptedModel([FIX, call("finish", **lie), FINISH, FINISH])
    assert play(bench, model).status == "done"
    assert "calc.py" in last_message(model, 2)


def test_a_finish_that_lacks_what_the_mode_needs_is_refused(bench: MemoryBench) -> None:
    without = {name: value for name, value in DONE.items() if name != "cause"}
    model = ScriptedModel([FIX, call("finish", **without), FINISH, FINISH])
    assert play(bench, model).status == "done"
    assert "finish lacks: cause" in last_message(model, 2)


def test_several_calls_in_one_reply_are_run_in_order(bench: MemoryBench) -> None:
    both = {"tool_calls": [*FIX["tool_calls"], *call("bash", command="cat calc.py")["tool_calls"]]}
    model = ScriptedModel([both, FINISH, FINISH])
    play(bench, model)
    assert "return a + b" in model.requests[1].history[-1]


def test_text_is_streamed_and_the_plan_shown(bench: MemoryBench) -> None:
    plan = call("plan", items=[{"title": "Look", "status": "in_progress"}])
    play(bench, [{"text": "I begin.", **plan}, FIX, FINISH, FINISH])
    assert bench.streamed == ["I begin."]
    assert bench.plans == [[("Look", "in_progress")]]
    assert bench.progress == sorted(bench.progress)


# --- the prompt --------------------------------------------------------------------------------


def test_the_prompt_is_in_cache_order_and_the_prefix_knows_nothing_of_the_task(
    bench: MemoryBench,
) -> None:
    model = ScriptedModel([FIX, FINISH, FINISH])
    play(bench, model, brief="BRIEF-MARK", prompt="PROMPT-MARK")
    other = ScriptedModel([call("finish", **{**DONE, "status": "blocked"})] * 2)
    play(MemoryBench(bench.root), other, brief="ANOTHER", task_id="another")
    prefix, brief = model.requests[0].system
    assert prefix == other.requests[0].system[0]
    assert [prefix.index(title) for title in ("# Your task type", "# When you are done")] == sorted(
        prefix.index(title) for title in ("# Your task type", "# When you are done")
    )
    assert "BRIEF-MARK" in brief
    assert "PROMPT-MARK" not in prefix + brief
    assert "PROMPT-MARK" in model.requests[0].history[0]


def test_history_only_grows_and_is_never_serialised_again(bench: MemoryBench) -> None:
    script = [call("bash", command=f"seq {number} 900") for number in range(1, 30)]
    model = ScriptedModel([*script, FIX, FINISH, FINISH])
    play(bench, model)
    for earlier, later in pairwise(model.requests):
        assert later.history[: len(earlier.history)] == earlier.history
        assert all(a is b for a, b in zip(earlier.history, later.history, strict=False))
        assert later.system is earlier.system
        assert later.tools is earlier.tools


def test_a_step_serialises_the_same_amount_however_long_the_history_is(
    bench: MemoryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    original = json.dumps

    def counting(value: Any, **options: Any) -> str:
        text = original(value, **options)
        written.append(len(text))
        return text

    def script(request: Request) -> dict[str, Any]:
        totals.append(sum(written))
        if len(totals) <= 60:
            return call("bash", command=f"echo {len(totals):03}; seq 1000 1900")
        return [FIX, FINISH, FINISH][len(totals) - 61]

    totals: list[int] = []
    monkeypatch.setattr("aimodels.providers.wire.json.dumps", counting)
    play(bench, ScriptedModel(script), limits=AgentLimits(context_window=10**7))
    steps = [later - earlier for earlier, later in pairwise(totals[:60])]
    assert min(steps) > 4_000
    assert max(steps[-10:]) <= max(steps[:10]) + 50


# --- checks and the repair round ---------------------------------------------------------------


def test_the_platform_runs_the_checks_on_the_result(tmp_path: Path) -> None:
    bench = MemoryBench(write_tree(tmp_path / "repo", BUGGY), checks=[CHECK])
    bench.run_checks(phase="before")
    model = ScriptedModel([FIX, FINISH, FINISH])
    play(bench, model)
    assert bench.rounds == ["before", "after"]
    assert bench.results["after"][0].verdict == "passed"
    assert "failed (exit code 1)" in model.requests[0].history[0]


def breaking_bench(tmp_path: Path) -> MemoryBench:
    files = {**BUGGY, "ok.py": "X = 1\n"}
    checks = ["python3 -B -c 'import ok; assert ok.X == 1'"]
    bench = MemoryBench(write_tree(tmp_path / "repo", files), checks=checks)
    bench.run_checks(phase="before")
    return bench


BREAK = call("edit", path="ok.py", old="1", new="2")
MEND = call("edit", path="ok.py", old="2", new="1")


def test_a_check_that_breaks_gets_one_repair_round(tmp_path: Path) -> None:
    bench = breaking_bench(tmp_path)
    model = ScriptedModel([FIX, BREAK, FINISH, FINISH, MEND, FINISH])
    assert play(bench, model).status == "done"
    assert bench.rounds == ["before", "after", "after"]
    assert bench.results["after"][0].verdict == "passed"
    assert "AssertionError" in last_message(model, 4)


def test_the_repair_round_ends_after_its_steps(tmp_path: Path) -> None:
    bench = breaking_bench(tmp_path)
    idle = [call("bash", command=f"echo {number}") for number in range(9)]
    model = ScriptedModel([FIX, BREAK, FINISH, FINISH, *idle])
    assert play(bench, model).status == "done"
    assert len(model.requests) == 4 + 3
    assert bench.results["after"][0].verdict == "failed"
    assert bench.rounds == ["before", "after", "after"]


def test_a_check_that_failed_before_asks_for_no_repair(tmp_path: Path) -> None:
    bench = MemoryBench(write_tree(tmp_path / "repo", BUGGY), checks=["false"])
    bench.run_checks(phase="before")
    model = ScriptedModel([FIX, FINISH, FINISH])
    assert play(bench, model).status == "done"
    assert len(model.requests) == 3


def test_running_out_of_calls_in_the_repair_keeps_the_result(tmp_path: Path) -> None:
    bench = breaking_bench(tmp_path)
    model = ScriptedModel([FIX, BREAK, FINISH, FINISH, MEND])
    result = play(bench, model, limits=AgentLimits(calls=5))
    assert result.status == "done"
    assert bench.results["after"][0].verdict == "passed"


def test_going_round_in_circles_in_the_repair_keeps_the_result(tmp_path: Path) -> None:
    bench = breaking_bench(tmp_path)
    same = call("bash", command="cat ok.py")
    model = ScriptedModel([FIX, BREAK, FINISH, FINISH, *[same] * 20])
    assert play(bench, model, limits=AgentLimits(repair_steps=15)).status == "done"
    assert len(model.requests) == 4 + 8


# --- what goes wrong ---------------------------------------------------------------------------


def test_calls_are_limited_and_the_model_is_warned(bench: MemoryBench) -> None:
    model = ScriptedModel([call("bash", command=f"echo {number}") for number in range(9)])
    with pytest.raises(OutOfBudget) as caught:
        play(bench, model, limits=AgentLimits(calls=6))
    assert caught.value.limit == "calls"
    assert len(model.requests) == 6
    warned = [
        index
        for index, request in enumerate(model.requests)
        if "more replies" in request.history[-1]
    ]
    assert warned == [2]
    assert "[platform " in model.requests[2].history[-1]


def minutes(*values: float) -> Iterator[float]:
    yield from (value * 60 for value in values)
    while True:
        yield values[-1] * 60


def test_time_wraps_up_and_then_ends_the_run(bench: MemoryBench) -> None:
    times = {"now": minutes(1, 31, 32, 46)}
    model = ScriptedModel(
        [call("plan", items=[{"title": f"{n}", "status": "done"}]) for n in range(9)]
    )
    bench.clock = lambda: next(times["now"])
    with pytest.raises(OutOfBudget) as caught:
        play(bench, model)
    assert caught.value.limit == "time"
    assert len(model.requests) == 4
    warned = [
        index
        for index, request in enumerate(model.requests)
        if "nearly over" in request.history[-1]
    ]
    assert warned == [2]


def test_malformed_replies_are_asked_again_and_end_the_run_at_the_third_in_a_row(
    bench: MemoryBench,
) -> None:
    cut = MalformedReply("cut off", usage=Usage(10, 0, 0, 1))
    assert play(bench, [[cut, cut, FIX], FINISH, FINISH]).status == "done"
    with pytest.raises(ModelGaveUp) as caught:
        play(MemoryBench(bench.root), [[cut, cut, cut]])
    assert caught.value.code == "malformed_replies"


@pytest.mark.parametrize(
    "useless",
    [
        {"text": "I think the bug is in add."},
        {"tool_calls": [{"name": "bash", "arguments": "{broken"}]},
        {"tool_calls": [{"name": "no_such_tool", "arguments": {}}]},
        {"tool_calls": [{"name": "bash", "arguments": {"cmd": "ls"}}]},
        {"text": "a very long", "stop": "length"},
        {"tool_calls": [{"name": "bash", "arguments": {"command": "ls"}}], "stop": "length"},
    ],
)
def test_a_useless_reply_is_explained_and_three_in_a_row_end_the_run(
    bench: MemoryBench, useless: dict[str, Any]
) -> None:
    model = ScriptedModel([useless, FIX, useless, useless, FINISH, FINISH])
    assert play(bench, model).status == "done"
    with pytest.raises(ModelGaveUp):
        play(MemoryBench(bench.root), [useless] * 3)


def test_nothing_of_a_reply_that_was_cut_is_run(bench: MemoryBench) -> None:
    cut = {**call("bash", command="touch should-not-be-there"), "stop": "length"}
    play(bench, [cut, FIX, FINISH, FINISH])
    assert not (bench.root / "should-not-be-there").exists()


def test_a_refusal_ends_the_run(bench: MemoryBench) -> None:
    with pytest.raises(ModelGaveUp) as caught:
        play(bench, [{"text": "I will not do that.", "stop": "refusal"}])
    assert caught.value.code == "model_refused"


def test_a_busy_provider_parks_the_run(bench: MemoryBench) -> None:
    with pytest.raises(ProviderBusy):
        play(bench, [ProviderBusy("overloaded", retry_after=3)])


def test_far_too_many_calls_in_one_reply_are_answered_but_not_run(bench: MemoryBench) -> None:
    many = {
        "tool_calls": [{"name": "bash", "arguments": {"command": f"echo {n}"}} for n in range(40)]
    }
    model = ScriptedModel([many, FIX, FINISH, FINISH])
    play(bench, model)
    assert bench.journal.names().count("bash") == 16
    assert last_message(model, 1).count("too many calls") == 24
