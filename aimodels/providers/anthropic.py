"""Claude, through the anthropic SDK.

The body is sent as bytes joined from fragments: the SDK neither walks nor serialises it.
Anthropic allows four cache marks. They go to the end of the newest turn, of the system's parts
(from the last one back), and of the tools if one is left; the mark on the newest turn is put in
while joining, so that it can move without any turn being serialised again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anthropic
from anthropic import Stream

from aimodels.providers.base import Reply, Request, ToolCall, ToolOutput, ToolSpec, Usage
from aimodels.providers.line import Line
from aimodels.providers.translation import translated
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
CACHE = {"type": "ephemeral"}
CACHE_MARKS = 4
TURN_END = "}]}"
"""How every turn ends: its last block, its content, itself."""
MARKED_TURN_END = f',"cache_control":{dump(CACHE)}{TURN_END}'
STOPS = {
    "end_turn": "end",
    "stop_sequence": "end",
    "pause_turn": "end",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicProvider:
    """One model behind ``/v1/messages``."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._kept: tuple[tuple[object, ...], str] | None = None
        self._client = anthropic.Anthropic(
            base_url=line.base_url or None,
            api_key=line.api_key or "none",
            timeout=line.seconds,
            max_retries=line.max_retries,
            http_client=anthropic.DefaultHttpxClient(**line.client_arguments()),
        )

    # --- fragments -----------------------------------------------------------------------------

    def user_turn(self, text: str) -> str:
        return dump({"role": "user", "content": [{"type": "text", "text": clean(text)}]})

    def tool_turn(self, outputs: Sequence[ToolOutput]) -> str:
        blocks = [
            _result(output.call.id, clean(output.text), is_error=output.is_error)
            for output in outputs
        ]
        return dump({"role": "user", "content": blocks})

    def mask_tool_turn(self, fragment: str, notice: str) -> str:
        blocks = json.loads(fragment)["content"]
        masked = [_result(block["tool_use_id"], notice, is_error=False) for block in blocks]
        return dump({"role": "user", "content": masked})

    # --- the call ------------------------------------------------------------------------------

    def request_bytes(self, request: Request) -> int:
        return len(self._body(request))

    def complete(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Reply:
        body = self._body(request)
        draft = Draft(on_text)
        with translated(anthropic, self._line.api_key, draft, len(body)):
            events = self._client.post(
                "/v1/messages",
                content=body,
                cast_to=object,
                options={"headers": HEADERS},
                stream=True,
                stream_cls=Stream[object],
            )
            with events:
                turn = _Turn(draft).read(events)
        return draft.reply(STOPS, turn, len(body))

    def close(self) -> None:
        self._client.close()

    def _body(self, request: Request) -> bytes:
        *earlier, newest = request.history
        if newest.endswith(TURN_END):
            newest = newest[: -len(TURN_END)] + MARKED_TURN_END
        return f"{self._head(request)}{','.join([*earlier, newest])}]}}".encode()

    def _head(self, request: Request) -> str:
        """Return the body up to the history: serialised once a run, the prefix the cache knows."""
        of = (request.system, request.tools, request.max_output_tokens, request.temperature)
        if self._kept is None or not is_same(self._kept[0], of):
            self._kept = (of, self._serialised_head(request))
        return self._kept[1]

    def _serialised_head(self, request: Request) -> str:
        head: dict[str, Any] = {
            "model": self._line.model,
            "max_tokens": request.max_output_tokens,
            "stream": True,
        }
        if request.temperature is not None:
            head["temperature"] = request.temperature
        if request.tools:
            head["tools"] = [_tool(spec) for spec in request.tools]
        head["system"] = [{"type": "text", "text": clean(part)} for part in request.system]
        for block in [*reversed(head["system"]), *reversed(head.get("tools", [])[-1:])][
            : CACHE_MARKS - 1
        ]:
            block["cache_control"] = CACHE
        return f'{dump(head)[:-1]},"messages":['


def _tool(spec: ToolSpec) -> dict[str, object]:
    return {"name": spec.name, "description": spec.description, "input_schema": spec.schema}


def _result(call_id: str, text: str, *, is_error: bool) -> dict[str, object]:
    block: dict[str, object] = {"type": "tool_result", "tool_use_id": call_id, "content": text}
    return {**block, "is_error": True} if is_error else block


# --- reading the stream ------------------------------------------------------------------------


class _Turn:
    """The assistant's turn while its events come; blocks are kept in the order of the stream."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.blocks: dict[int, dict[str, Any]] = {}
        self.calls: dict[int, PartialCall] = {}
        self.counts: dict[str, int] = {}

    def read(self, events: Iterable[object]) -> str:
        """Return the turn's fragment after the last event."""
        for event in events:
            if not isinstance(event, dict):
                raise ValueError("an event is no object")
            self.draft.has_begun = True
            handler = getattr(self, f"_on_{event.get('type')}", None)
            if handler is not None:
                handler(event)
        return self._fragment()

    def _on_message_start(self, event: dict[str, Any]) -> None:
        self._count(event["message"].get("usage") or {})

    def _on_message_delta(self, event: dict[str, Any]) -> None:
        self.draft.finish = str(event["delta"].get("stop_reason") or self.draft.finish)
        self._count(event.get("usage") or {})

    def _on_content_block_start(self, event: dict[str, Any]) -> None:
        index, block = event["index"], dict(event["content_block"])
        self.blocks[index] = block
        if block["type"] == "tool_use":
            call = self.draft.new_call()
            call.id, call.name = str(block.get("id") or ""), str(block.get("name") or "")
            self.calls[index] = call
        elif block["type"] == "text" and block.get("text"):
            self.draft.add_text(block["text"])

    def _on_content_block_delta(self, event: dict[str, Any]) -> None:
        index, delta = event["index"], event["delta"]
        block = self.blocks[index]
        if delta["type"] == "text_delta":
            block.setdefault("pieces", []).append(clean(delta["text"]))
            self.draft.add_text(delta["text"])
        elif delta["type"] == "input_json_delta":
            self.draft.add_arguments(self.calls[index], delta["partial_json"])
        elif delta["type"] == "thinking_delta":
            self.draft.count(delta["thinking"])
            block.setdefault("pieces", []).append(clean(delta["thinking"]))
        elif delta["type"] == "signature_delta":
            block["signature"] = delta["signature"]

    def _count(self, usage: dict[str, Any]) -> None:
        """Take over the counts; later events repeat the earlier ones or say more."""
        self.counts |= {name: whole(value) for name, value in usage.items() if whole(value)}
        cached = self.counts.get("cache_read_input_tokens", 0)
        written = self.counts.get("cache_creation_input_tokens", 0)
        fresh = self.counts.get("input_tokens", 0)
        output = self.counts.get("output_tokens", 0)
        self.draft.usage = Usage(fresh + cached + written, cached, written, output)

    def _fragment(self) -> str:
        finished = dict(zip(self.calls, self.draft.tool_calls(), strict=True))
        blocks = []
        for index, block in self.blocks.items():
            if index in finished:
                blocks.append(_tool_use(finished[index]))
            elif kept := _kept(block):
                blocks.append(kept)
        nothing = {"type": "text", "text": "(no answer)"}
        return dump({"role": "assistant", "content": blocks or [nothing]})


def _tool_use(call: ToolCall) -> dict[str, Any]:
    input_ = arguments_object(call.arguments)
    return {"type": "tool_use", "id": call.id, "name": tool_name(call.name), "input": input_}


def _kept(block: dict[str, Any]) -> dict[str, Any] | None:
    """Return a block as it goes back to the provider, with the fields that it takes, or None."""
    kind, text = block["type"], "".join(block.get("pieces", []))
    if kind == "text":
        whole_text = block.get("text", "") + text
        return {"type": "text", "text": whole_text} if whole_text.strip() else None
    if kind == "thinking":
        signature = block.get("signature", "")
        return {"type": kind, "thinking": block.get("thinking", "") + text, "signature": signature}
    return {"type": kind, "data": block["data"]} if kind == "redacted_thinking" else None
