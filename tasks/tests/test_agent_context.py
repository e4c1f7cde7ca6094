"""The conversation stays within the window, its cuts are rare, worth it and the same every time."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aimodels.providers.base import ContextOverflow, Reply, Request, ToolCall, ToolOutput, Usage
from aimodels.providers.scripted import ScriptedModel, call
from tasks.agent.budget import AgentLimits
from tasks.agent.context import History
from tasks.agent.errors import ModelGaveUp
from tasks.tests.agent_bench import MemoryBench, play, write_tree

DONE = {"status": "done", "summary": "The sign was wrong.", "evidence": "ran it", "cause": "a - b"}
FIX = call("edit", path="calc.py", old="a - b", new="a + b")
ENDING = [FIX, call("finish", **DONE), call("finish", **DONE)]


@pytest.fixture
def bench(tmp_path: Path) -> MemoryBench:
    return MemoryBench(
        write_tree(tmp_path / "repo", {"calc.py": "def add(a, b):\n    return a - b\n"})
    )


def grown(outputs: int, size: int, **limits: Any) -> History:
    """Return a history of so many steps with outputs of so many bytes each."""
    history = History(ScriptedModel([]), AgentLimits(**limits), ["system"], [])
    history.add_user("the task")
    for number in range(outputs):
        fragment = f'{{"role":"assistant","text":"step {number}"}}'
        usage = Usage(input=history.bytes // 4, output=10)
        reply = Reply("", (ToolCall(f"c{number}", "bash", "{}"),), "tool_calls", usage, fragment)
        history.add_reply(reply)
        history.add_outputs([ToolOutput(reply.tool_calls[0], "x" * size)])
    return history


def test_masking_spares_the_newest_outputs_and_keeps_every_turn() -> None:
    history = grown(20, 5_000)
    turns, before = len(history.turns), history.estimate
    assert history.mask()
    assert len(history.turns) == len(history.fragments) == turns
    masked = [turn.is_masked for turn in history.turns if turn.kind == "tool"]
    assert masked == [True] * 12 + [False] * 8
    assert history.estimate < before * 0.6


def test_masking_comes_in_batches_so_that_the_cache_is_seldom_lost() -> None:
    history = grown(0, 0, context_window=40_000)
    cuts = []
    for number in range(60):
        reply = grown(1, 10).turns
        assert reply
        usage = Usage(input=history.bytes // 4, output=10)
        calls = (ToolCall(f"c{number}", "bash", "{}"),)
        history.add_reply(Reply("", calls, "tool_calls", usage, f'{{"n":{number}}}'))
        history.add_outputs([ToolOutput(calls[0], "x" * 5_000)])
        if history.is_long() and history.mask():
            cuts.append(number)
        assert history.estimate < 40_000
    assert 4 <= len(cuts) <= 30
    gaps = [later - earlier for earlier, later in pairwise(cuts)]
    assert min(gaps) >= 2


def test_a_cut_that_gains_little_is_not_made() -> None:
    history = grown(9, 1_000)
    history.add_user("x" * 100_000)
    fragments = list(history.fragments)
    assert not history.mask()
    assert history.fragments == fragments
    assert not history.can_sum_up("the task" + "x" * 120_000)


def test_a_summary_keeps_the_last_replies_with_their_results() -> None:
    history = grown(20, 5_000, context_window=40_000)
    assert history.can_sum_up("the task")
    assert history.sum_up("the task", "what I know")
    kinds = [turn.kind for turn in history.turns]
    assert kinds[0] == "user"
    assert kinds[1:] == ["assistant", "tool"] * (len(kinds) // 2)
    assert 3 <= len(kinds) <= 11
    assert "what I know" in history.fragments[0]
    assert "the task" in history.fragments[0]
    assert history.estimate < 12_000


def test_what_was_ever_appended_only_grows_and_bounds_the_growth_of_a_request() -> None:
    history = grown(20, 5_000)
    appended, size = history.appended_bytes, history.bytes
    history.mask()
    assert history.appended_bytes == appended
    history.add_user("y" * 300)
    assert history.appended_bytes - appended >= 300
    assert history.bytes < size


def test_the_digest_tells_histories_and_cuts_apart_and_is_the_same_for_the_same() -> None:
    assert grown(5, 100).digest == grown(5, 100).digest
    assert grown(5, 100).digest != grown(5, 101).digest
    cut = grown(20, 5_000)
    cut.mask()
    assert cut.digest != grown(20, 5_000).digest


# --- in the loop -------------------------------------------------------------------------------


def test_old_outputs_are_masked_when_the_conversation_grows(bench: MemoryBench) -> None:
    looks = [call("bash", command=f"seq {number} 2500") for number in range(1, 30)]
    model = ScriptedModel([*looks, *ENDING])
    play(bench, model, limits=AgentLimits(context_window=100_000))
    last = model.requests[-1].history
    assert sum("an old output, left out" in fragment for fragment in last) >= 5
    assert "2499" in last[-7]
    assert all(len(json.dumps(request.history)) < 200_000 for request in model.requests)


def test_near_the_end_of_the_window_the_model_sums_up(bench: MemoryBench) -> None:
    asked: list[str] = []

    def script(request: Request) -> dict[str, Any]:
        if "Write a summary" in request.history[-1]:
            asked.append("summary")
            return {"text": "I looked at calc.py; the sign is wrong."}
        asked.append("step")
        steps = asked.count("step")
        # Long arguments are not masked, so only a summary can help.
        if steps <= 24:
            return call("bash", command=f": {'y' * 2_500}; echo {steps}")
        return ENDING[steps - 25]

    model = ScriptedModel(script)
    assert play(bench, model, limits=AgentLimits(context_window=16_000)).status == "done"
    assert 1 <= asked.count("summary") <= 4
    after = model.requests[asked.index("summary") + 1].history
    assert "I looked at calc.py; the sign is wrong." in after[0]
    assert "Fix the bug in add." in after[0]
    assert after[1].startswith('{"role":"assistant"')


def test_a_conversation_that_the_provider_finds_too_long_is_cut_and_goes_on(
    bench: MemoryBench,
) -> None:
    looks = [call("bash", command=f"seq {number} 2500") for number in range(1, 6)]

    def script(request: Request) -> dict[str, Any]:
        if sum(map(len, request.history)) > 30_000:
            raise ContextOverflow("too long")
        answered = sum(fragment.startswith('{"role":"assistant"') for fragment in request.history)
        return [*looks, *ENDING][answered]

    assert play(bench, ScriptedModel(script)).status == "done"


def test_a_task_that_never_fits_ends_in_plain_words(bench: MemoryBench) -> None:
    def script(request: Request) -> dict[str, Any]:
        raise ContextOverflow("8192 tokens at most")

    with pytest.raises(ModelGaveUp) as caught:
        play(bench, ScriptedModel(script))
    assert caught.value.code == "conversation_too_long"
