"""Both SDKs against a server that speaks their wire formats: what goes out and what comes back."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aimodels.providers import connect
from aimodels.providers.base import Provider, Reply, Request, ToolCall, ToolOutput, ToolSpec, Usage
from aimodels.tests.model_server import ModelServer, Script, serve
from asynccoder.tests.processes import free_port, wait_for

KINDS = ["openai", "anthropic", "gemini", "custom"]
BASH = ToolSpec(
    "bash",
    "Run a command.",
    {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
)
OPENED: list[Provider] = []
SYSTEM = ("You are a coder. " * 40, "Repository brief. " * 40)
LOOP: Script = [
    {
        "text": "Let me look — ünïcode ✓.",
        "tool_calls": [{"name": "bash", "arguments": {"command": "ls"}}],
    },
    {
        "tool_calls": [
            {"name": "bash", "arguments": {"command": "cat a"}},
            {"name": "bash", "arguments": {"command": "cat b"}},
        ]
    },
    {"text": "Done."},
]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def provider_for(server: ModelServer, kind: str, **values: Any) -> Provider:
    values = {"api_key": "sk-test-key", "model": "m-1", "timeout": 5.0, "max_retries": 0, **values}
    OPENED.append(connect(kind, base_url=server.base_url(kind), **values))
    return OPENED[-1]


def play(provider: Provider, turns: int) -> tuple[list[Reply], list[str]]:
    """Talk for so many turns, answering every tool call; return the replies and the history."""
    history = [provider.user_turn("Fix the bug.")]
    replies = []
    for _ in range(turns):
        reply = provider.complete(Request(SYSTEM, tuple(history), 1000, (BASH,)))
        replies.append(reply)
        history.append(reply.fragment)
        outputs = [ToolOutput(call, f"output of {call.arguments}") for call in reply.tool_calls]
        if outputs:
            history.append(provider.tool_turn(outputs))
    return replies, history


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_of_tool_calls_runs_over_the_wire(kind: str) -> None:
    with serve(LOOP) as server:
        replies, _ = play(provider_for(server, kind), 3)
    assert [reply.stop_reason for reply in replies] == ["tool_calls", "tool_calls", "end"]
    assert replies[0].text == "Let me look — ünïcode ✓."
    assert [json.loads(call.arguments) for call in replies[1].tool_calls] == [
        {"command": "cat a"},
        {"command": "cat b"},
    ]
    assert len({call.id for call in replies[1].tool_calls}) == 2
    assert replies[2].text == "Done."


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_streamed_as_it_comes(kind: str) -> None:
    pieces: list[str] = []
    with serve([{"text": "one two three four five six"}]) as server:
        provider = provider_for(server, kind)
        request = Request(("s",), (provider.user_turn("hi"),), 100)
        reply = provider.complete(request, on_text=pieces.append)
    assert "".join(pieces) == reply.text == "one two three four five six"
    assert len(pieces) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_usage_counts_all_input_with_its_cached_share(kind: str) -> None:
    script = [{"text": "x", "usage": {"input": 1000, "cached": 600, "output": 50}}]
    with serve(script) as server:
        provider = provider_for(server, kind)
        reply = provider.complete(Request(SYSTEM, (provider.user_turn("hi"),), 100))
    assert (reply.usage.input, reply.usage.cached, reply.usage.output) == (1000, 600, 50)
    assert reply.usage.cache_written == (400 if kind == "anthropic" else 0)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_the_next_call_finds_nearly_all_of_its_prompt_in_the_cache(kind: str) -> None:
    with serve(LOOP) as server:
        replies, _ = play(provider_for(server, kind), 3)
    assert replies[0].usage.cached == 0
    for reply in replies[1:]:
        assert reply.usage.cached > 0.8 * reply.usage.input


def test_usage_is_estimated_where_a_server_reports_none() -> None:
    with serve([{"text": "x" * 400, "no_usage": True}]) as server:
        provider = provider_for(server, "custom")
        reply = provider.complete(Request(SYSTEM, (provider.user_turn("hi"),), 100))
    assert reply.usage.is_estimated
    assert reply.usage.input > 100
    assert reply.usage.output >= 100


def test_anthropic_marks_the_prefix_the_brief_the_tools_and_only_the_newest_turn() -> None:
    with serve(LOOP) as server:
        play(provider_for(server, "anthropic"), 3)
        bodies = server.bodies()
    for body in bodies:
        assert [part.get("cache_control") for part in body["system"]] == [{"type": "ephemeral"}] * 2
        assert body["tools"][-1]["cache_control"] == {"type": "ephemeral"}
        marked = [
            index
            for index, message in enumerate(body["messages"])
            for block in message["content"]
            if "cache_control" in block
        ]
        assert marked == [len(body["messages"]) - 1]


def test_anthropic_keeps_to_four_marks_with_many_system_parts() -> None:
    with serve([{"text": "ok"}]) as server:
        provider = provider_for(server, "anthropic")
        parts = ("a", "b", "c", "d", "e")
        provider.complete(Request(parts, (provider.user_turn("hi"),), 100, (BASH,)))
        body = server.bodies()[0]
    assert json.dumps(body).count("cache_control") == 4
    assert "cache_control" in body["system"][-1]


@pytest.mark.parametrize(
    ("kind", "name"), [("openai", "max_completion_tokens"), ("custom", "max_tokens")]
)
def test_openai_is_asked_for_usage_and_each_server_for_a_limit_it_knows(
    kind: str, name: str
) -> None:
    with serve([{"text": "ok"}]) as server:
        provider = provider_for(server, kind)
        provider.complete(Request(("s",), (provider.user_turn("hi"),), 77, temperature=0.0))
        body = server.bodies()[0]
    assert body["stream_options"] == {"include_usage": True}
    assert (body[name], body["temperature"]) == (77, 0.0)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_malformed_arguments_come_back_raw_and_never_go_out_again(kind: str) -> None:
    script: Script = [
        {"tool_calls": [{"name": "my bash!", "arguments": '{"command": "ls'}]},
        {"text": "ok"},
    ]
    with serve(script) as server:
        replies, history = play(provider_for(server, kind), 2)
    assert replies[0].tool_calls[0].arguments == '{"command": "ls'
    assert replies[0].tool_calls[0].name == "my bash!"
    assert "my_bash_" in history[1]
    assert replies[1].text == "ok"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_masked_tool_turn_still_answers_its_calls(kind: str) -> None:
    with serve(LOOP) as server:
        provider = provider_for(server, kind)
        _, history = play(provider, 2)
        masked = provider.mask_tool_turn(history[4], "[masked]")
        reply = provider.complete(Request(SYSTEM, (*history[:4], masked), 100, (BASH,)))
    assert reply.text == "Done."
    assert masked.count("[masked]") == 2
    assert "output of" not in masked


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_the_size_of_a_request_is_that_of_its_body_on_the_wire(kind: str) -> None:
    with serve([{"text": "ok"}]) as server:
        provider = provider_for(server, kind)
        request = Request(SYSTEM, (provider.user_turn("ünïcode"),), 100, (BASH,))
        provider.complete(request)
        sent = server.requests[0]["headers"]["Content-Length"]
    assert provider.request_bytes(request) == int(sent)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_text_that_no_database_can_hold_is_mended_on_the_way(kind: str) -> None:
    with serve([{"text": "a\x00b"}]) as server:
        provider = provider_for(server, kind)
        reply = provider.complete(Request(("s\ud800",), (provider.user_turn("hi \udfff"),), 100))
    assert "\x00" not in reply.text + reply.fragment


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_the_history_is_not_serialised_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    serialised: list[int] = []
    original = json.dumps

    def counting(value: Any, **options: Any) -> str:
        text = original(value, **options)
        serialised.append(len(text))
        return text

    with serve([{"text": "ok"}]) as server:
        provider = provider_for(server, kind)
        turns = [provider.user_turn("x" * 50_000) for _ in range(20)]
        provider.complete(Request(SYSTEM, tuple(turns), 100, (BASH,)))
        monkeypatch.setattr("aimodels.providers.wire.json.dumps", counting)
        request = Request(SYSTEM, (*turns, provider.user_turn("short")), 100, (BASH,))
        before = sum(serialised)
        provider._body(request)  # type: ignore[attr-defined] # The server's own dumps would count too.
    assert before > 0
    assert sum(serialised) == before


def test_a_reply_survives_the_journal() -> None:
    reply = Reply(
        "t", (ToolCall("1", "bash", "{}"),), "tool_calls", Usage(5, 4, 1, 2), "{}", at=3.5
    )
    assert Reply.from_json(reply.to_json()) == reply
    old = {name: value for name, value in json.loads(reply.to_json()).items() if name != "at"}
    assert Reply.from_json(json.dumps(old)).at == 0.0


def test_gemini_gets_its_thought_signature_back() -> None:
    from aimodels.providers.openai import _assistant_turn, _read
    from aimodels.providers.wire import Draft

    extra = {"google": {"thought_signature": "c2ln"}}
    function = {"name": "bash", "arguments": "{}"}
    piece = {"index": 0, "id": "a", "function": function, "extra_content": extra}
    draft = Draft()
    _read([{"choices": [{"delta": {"tool_calls": [piece]}}]}], draft)
    assert json.loads(_assistant_turn(draft))["tool_calls"][0]["extra_content"] == extra


def test_parallel_calls_that_all_have_index_zero_are_kept_apart() -> None:
    from aimodels.providers.openai import _read
    from aimodels.providers.wire import Draft

    def chunk(**piece: Any) -> dict[str, Any]:
        return {"choices": [{"delta": {"tool_calls": [{"index": 0, **piece}]}}]}

    draft = Draft()
    _read(
        [
            chunk(id="a", function={"name": "one", "arguments": '{"x":'}),
            chunk(function={"arguments": "1}"}),
            chunk(id="b", function={"name": "two", "arguments": "{}"}),
        ],
        draft,
    )
    assert [(call.name, call.arguments) for call in draft.tool_calls()] == [
        ("one", '{"x":1}'),
        ("two", "{}"),
    ]


def anthropic_turn(*events: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the blocks of the turn that these events make."""
    from aimodels.providers.anthropic import _Turn
    from aimodels.providers.wire import Draft

    blocks: list[dict[str, Any]] = json.loads(_Turn(Draft()).read(list(events)))["content"]
    return blocks


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def test_claudes_thinking_goes_back_signed_and_other_blocks_stay_out() -> None:
    thinking = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "First "},
        {"type": "thinking_delta", "thinking": "this."},
        {"type": "signature_delta", "signature": "c2ln"},
    )
    hidden = block(1, {"type": "redacted_thinking", "data": "eHg="})
    unknown = block(2, {"type": "server_tool_use", "id": "s", "name": "web", "input": {}})
    text = block(3, {"type": "text", "text": "So "}, {"type": "text_delta", "text": "it is."})
    blank = block(4, {"type": "text", "text": ""}, {"type": "text_delta", "text": " \n"})
    assert anthropic_turn(*thinking, *hidden, *unknown, *text, *blank) == [
        {"type": "thinking", "thinking": "First this.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eHg="},
        {"type": "text", "text": "So it is."},
    ]


def test_an_answer_without_content_is_still_a_turn_that_can_go_back() -> None:
    assert anthropic_turn() == [{"type": "text", "text": "(no answer)"}]


def test_choosing_a_provider_imports_only_its_own_sdk() -> None:
    program = (
        "import sys\n"
        "import aimodels.providers\n"
        "assert not {'openai', 'anthropic', 'httpx2'} & set(sys.modules)\n"
        "aimodels.providers.connect('anthropic', base_url='http://127.0.0.1:1', api_key='k',"
        " model='m', timeout=1, max_retries=0)\n"
        "assert 'anthropic' in sys.modules and 'openai' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, timeout=60)


def test_the_scripted_server_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"text": "from another process"}]))
    port = free_port()
    argv = [sys.executable, "-m", "aimodels.tests.model_server", "--port", str(port)]
    process = subprocess.Popen([*argv, "--script", str(script)], cwd=Path(__file__).parents[2])
    try:
        wait_for(lambda: is_open(port), what="the server listens")
        provider = connect(
            "custom", base_url=f"http://127.0.0.1:{port}/v1", api_key="", model="m", timeout=60,
            max_retries=0,
        )  # fmt: skip
        OPENED.append(provider)
        request = Request(("s",), (provider.user_turn("hi"),), 100)
        assert provider.complete(request).text == "from another process"
    finally:
        process.kill()
        process.wait()


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
