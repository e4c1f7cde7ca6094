"""GPT, Gemini and every OpenAI-compatible server, through the openai SDK.

The body is sent as bytes joined from fragments: the SDK neither walks nor serialises it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import openai

from aimodels.providers.base import Reply, Request, ToolOutput, ToolSpec, Usage
from aimodels.providers.line import Line
from aimodels.providers.translation import translated
from aimodels.providers.whole_stream import WholeStream
from aimodels.providers.wire import (
    Draft,
    PartialCall,
    arguments_object,
    clean,
    dump,
    is_same,
    tool_name,
    whole,
)

HEADERS = {"Content-Type": "application/json"}
STOPS = {
    "stop": "end",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "refusal",
}


class OpenAIProvider:
    """One model behind ``/chat/completions``."""

    def __init__(self, line: Line, *, output_limit_name: str = "max_tokens") -> None:
        self._line = line
        self._output_limit_name = output_limit_name
        self._kept: tuple[tuple[object, ...], str] | None = None
        self._client = openai.OpenAI(
            base_url=line.base_url or None,
            api_key=line.api_key or "none",
            timeout=line.seconds,
            max_retries=line.max_retries,
            http_client=openai.DefaultHttpxClient(**line.client_arguments()),
        )

    # --- fragments -----------------------------------------------------------------------------

    def user_turn(self, text: str) -> str:
        return dump({"role": "user", "content": clean(text)})

    def tool_turn(self, outputs: Sequence[ToolOutput]) -> str:
        return ",".join(_tool_message(output.call.id, clean(output.text)) for output in outputs)

    def mask_tool_turn(self, fragment: str, notice: str) -> str:
        messages = json.loads(f"[{fragment}]")
        return ",".join(_tool_message(message["tool_call_id"], notice) for message in messages)

    # --- the call ------------------------------------------------------------------------------

    def request_bytes(self, request: Request) -> int:
        return len(self._body(request))

    def complete(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Reply:
        body = self._body(request)
        draft = Draft(on_text)
        with translated(openai, self._line.api_key, draft, len(body)):
            chunks = self._client.post(
                "/chat/completions",
                content=body,
                cast_to=object,
                options={"headers": HEADERS},
                stream=True,
                stream_cls=WholeStream,
            )
            with chunks:
                _read(chunks, draft)
        return draft.reply(STOPS, _assistant_turn(draft), len(body))

    def close(self) -> None:
        self._client.close()

    def _body(self, request: Request) -> bytes:
        return f"{self._head(request)}{''.join(f',{turn}' for turn in request.history)}]}}".encode()

    def _head(self, request: Request) -> str:
        """Return the body up to the history: serialised once a run, the prefix the cache knows."""
        of = (request.system, request.tools, request.max_output_tokens, request.temperature)
        if self._kept is None or not is_same(self._kept[0], of):
            self._kept = (of, self._serialised_head(request))
        return self._kept[1]

    def _serialised_head(self, request: Request) -> str:
        head: dict[str, Any] = {
            "model": self._line.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            self._output_limit_name: request.max_output_tokens,
        }
        if request.temperature is not None:
            head["temperature"] = request.temperature
        if request.tools:
            head["tools"] = [_tool(spec) for spec in request.tools]
        return f'{dump(head)[:-1]},"messages":[{_system_turn(request.system)}'


def _system_turn(parts: Sequence[str]) -> str:
    return dump({"role": "system", "content": clean("\n\n".join(parts))})


def _tool(spec: ToolSpec) -> dict[str, object]:
    function = {"name": spec.name, "description": spec.description, "parameters": spec.schema}
    return {"type": "function", "function": function}


def _tool_message(call_id: str, text: str) -> str:
    return dump({"role": "tool", "tool_call_id": call_id, "content": text})


# --- reading the stream ------------------------------------------------------------------------


def _read(chunks: Iterable[object], draft: Draft) -> None:
    for chunk in chunks:
        if not isinstance(chunk, dict):
            raise ValueError("a chunk is no object")
        draft.has_begun = True
        if chunk.get("usage"):
            draft.usage = _usage(chunk["usage"])
        for choice in (chunk.get("choices") or [])[:1]:
            _read_delta(choice.get("delta") or {}, draft)
            draft.finish = str(choice.get("finish_reason") or draft.finish)


def _read_delta(delta: dict[str, Any], draft: Draft) -> None:
    if delta.get("content"):
        draft.add_text(delta["content"])
    if delta.get("refusal"):
        draft.add_text(delta["refusal"])
    for piece in delta.get("tool_calls") or []:
        call = _call_of(piece, draft)
        function = piece.get("function") or {}
        call.id = str(piece.get("id") or call.id)
        call.name = call.name or str(function.get("name") or "")
        call.extra |= {name: piece[name] for name in ("extra_content",) if piece.get(name)}
        draft.add_arguments(call, str(function.get("arguments") or ""))


def _call_of(piece: dict[str, Any], draft: Draft) -> PartialCall:
    """Return the call that a piece belongs to.

    Pieces are merged by id, else by index; some servers leave the index out, or give every
    parallel call index 0.
    """
    calls, id_, index = draft.calls, piece.get("id"), piece.get("index")
    if id_:
        known = [call for call in calls if call.id == id_]
        return known[0] if known else draft.new_call()
    if not calls or index == len(calls):
        return draft.new_call()
    return calls[index] if isinstance(index, int) and 0 < index < len(calls) else calls[-1]


def _usage(usage: dict[str, Any]) -> Usage:
    prompt = whole(usage.get("prompt_tokens"))
    completion = whole(usage.get("completion_tokens"))
    # Gemini leaves its thinking out of completion_tokens but not out of the total.
    output = max(completion, whole(usage.get("total_tokens")) - prompt)
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input=prompt, cached=min(whole(details.get("cached_tokens")), prompt), output=output
    )


def _assistant_turn(draft: Draft) -> str:
    turn: dict[str, Any] = {"role": "assistant", "content": draft.text or None}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {
                "name": tool_name(call.name),
                "arguments": dump(arguments_object(call.arguments)),
            },
            **partial.extra,
        }
        for call, partial in zip(draft.tool_calls(), draft.calls, strict=True)
    ]
    if calls:
        turn["tool_calls"] = calls
    elif not draft.text:
        turn["content"] = "(no answer)"
    return dump(turn)
