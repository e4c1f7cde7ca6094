"""The two wire formats as the real services speak them, for the scripted model server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
Turn = dict[str, Any]


@dataclass(frozen=True)
class WireFormat:
    """``events`` takes the request, the turn and (prompt bytes, cached bytes)."""

    events: Callable[[Body, Turn, tuple[int, int]], list[bytes]]
    error: Callable[[int, dict[str, Any]], Body]
    problem: Callable[[Body], str]
    prompt: Callable[[Body], str]


def pieces(text: str, size: int = 12) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def arguments_of(call: dict[str, Any]) -> str:
    """Return the arguments as the model writes them; a string goes out as it is, malformed or not."""
    arguments = call.get("arguments", {})
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def call_id(body: Body, number: int) -> str:
    return f"call_{len(body['messages'])}_{number}"


def tokens_of(turn: Turn, sizes: tuple[int, int]) -> tuple[int, int, int]:
    """Return (input, cached, output) tokens: four bytes each unless the turn says otherwise."""
    usage = turn.get("usage", {})
    written = len(turn.get("text", "")) + sum(
        len(arguments_of(call)) for call in turn.get("tool_calls", [])
    )
    return (
        usage.get("input", sizes[0] // 4),
        usage.get("cached", sizes[1] // 4),
        usage.get("output", written // 4 + 1),
    )


def without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: without_marks(item) for name, item in value.items() if name != "cache_control"
        }
    return [without_marks(item) for item in value] if isinstance(value, list) else value


def prompt_of(body: Body) -> str:
    """Return what the prompt cache compares: tools, system, messages, without the marks."""
    parts = [body.get("tools", []), body.get("system", []), *body["messages"]]
    return "".join(json.dumps(without_marks(part)) for part in parts)


# --- OpenAI ------------------------------------------------------------------------------------


def openai_events(body: Body, turn: Turn, sizes: tuple[int, int]) -> list[bytes]:
    chunks: list[Body] = [_choice({"role": "assistant", "content": ""})]
    chunks += [_choice({"content": piece}) for piece in pieces(turn.get("text", ""))]
    for number, call in enumerate(turn.get("tool_calls", [])):
        function = {"name": call["name"], "arguments": ""}
        first = {
            "index": number,
            "id": call_id(body, number),
            "type": "function",
            "function": function,
        }
        chunks.append(_choice({"tool_calls": [first]}))
        for piece in pieces(arguments_of(call), turn.get("piece", 12)):
            delta = {"index": number, "function": {"arguments": piece}}
            chunks.append(_choice({"tool_calls": [delta]}))
    stop = {"refusal": "content_filter", "end_turn": "stop", "max_tokens": "length"}
    natural = "tool_calls" if turn.get("tool_calls") else "stop"
    chunks.append(_choice({}, stop.get(turn.get("stop", ""), natural)))
    if not turn.get("no_usage"):
        chunks.append({"choices": [], "usage": _openai_usage(*tokens_of(turn, sizes))})
    common = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    lines = [_data({**common, **chunk}) for chunk in chunks]
    return [*lines, b"data: [DONE]\n\n"]


def _choice(delta: Body, finish: str | None = None) -> Body:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _openai_usage(input_: int, cached: int, output: int) -> Body:
    return {
        "prompt_tokens": input_,
        "completion_tokens": output,
        "total_tokens": input_ + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _data(value: Body, event: str = "") -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def openai_error(status: int, fault: dict[str, Any]) -> Body:
    kind = fault.get("type", "invalid_request_error" if status < 429 else "server_error")
    message = fault.get("message", f"status {status}")
    return {"error": {"message": message, "type": kind, "code": fault.get("code"), "param": None}}


def openai_problem(body: Body) -> str:
    """Return why the request is refused: every tool call is answered by the messages after it."""
    waiting: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return "a tool message answers no tool call"
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            return f"tool_call_ids did not have response messages: {sorted(waiting)}"
        for call in message.get("tool_calls", []):
            json.loads(call["function"]["arguments"])
            waiting.add(call["id"])
    return f"unanswered: {sorted(waiting)}" if waiting else ""


# --- Anthropic ---------------------------------------------------------------------------------


def anthropic_events(body: Body, turn: Turn, sizes: tuple[int, int]) -> list[bytes]:
    input_, cached, output = tokens_of(turn, sizes)
    marked = "cache_control" in json.dumps(body)
    cached = cached if marked else 0
    written = max(input_ - cached, 0) if marked else 0
    usage = {
        "input_tokens": max(input_ - cached - written, 0),
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "output_tokens": 1,
    }
    message = {"id": "m1", "type": "message", "role": "assistant", "content": [], "usage": usage}
    events: list[Body] = [{"type": "message_start", "message": {**message, "model": body["model"]}}]
    events.append({"type": "ping"})
    events += _text_events(turn.get("text", ""))
    for number, call in enumerate(turn.get("tool_calls", [])):
        events += _tool_events(call, call_id(body, number), number + 1)
    stop = turn.get("stop") or ("tool_use" if turn.get("tool_calls") else "end_turn")
    delta = {"stop_reason": stop, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": output}})
    events.append({"type": "message_stop"})
    return [_data(event, event["type"]) for event in events]


def _text_events(text: str) -> list[Body]:
    if not text:
        return []
    start = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    deltas = [_delta(0, {"type": "text_delta", "text": piece}) for piece in pieces(text)]
    return [start, *deltas, {"type": "content_block_stop", "index": 0}]


def _tool_events(call: dict[str, Any], id_: str, index: int) -> list[Body]:
    block = {"type": "tool_use", "id": id_, "name": call["name"], "input": {}}
    start = {"type": "content_block_start", "index": index, "content_block": block}
    deltas = [
        _delta(index, {"type": "input_json_delta", "partial_json": piece})
        for piece in pieces(arguments_of(call))
    ]
    return [start, *deltas, {"type": "content_block_stop", "index": index}]


def _delta(index: int, delta: Body) -> Body:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def anthropic_error(status: int, fault: dict[str, Any]) -> Body:
    names = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = fault.get(
        "type", names.get(status, "invalid_request_error" if status < 500 else "api_error")
    )
    return {
        "type": "error",
        "error": {"type": kind, "message": fault.get("message", f"status {status}")},
    }


def anthropic_problem(body: Body) -> str:
    """Return why the request is refused: marks, and a result for each call in the next turn."""
    if json.dumps(body).count('"cache_control"') > 4:
        return "A maximum of 4 blocks with cache_control may be provided."
    waiting: set[str] = set()
    for message in body["messages"]:
        blocks = message["content"]
        answered = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if answered != waiting:
            return f"tool_use ids without tool_result: {sorted(answered ^ waiting)}"
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            return "text content blocks must contain non-whitespace text"
        waiting = {block["id"] for block in blocks if block["type"] == "tool_use"}
    return f"unanswered: {sorted(waiting)}" if waiting else ""


FORMATS = {
    "/v1/chat/completions": WireFormat(openai_events, openai_error, openai_problem, prompt_of),
    "/v1/messages": WireFormat(anthropic_events, anthropic_error, anthropic_problem, prompt_of),
}
