"""A provider in this process that answers from a script, for tests of the engine.

A turn is ``{"text", "tool_calls": [{"name", "arguments"}], "usage": {...}, "stop"}`` or an error
to raise. The turn is chosen by the number of replies in the history, so a run that is resumed
with a new instance is told the same; a list inside the list is used up one call at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from aimodels.providers.base import ProviderError, Reply, Request, ToolCall, ToolOutput, Usage
from aimodels.providers.wire import dump

Turn = dict[str, Any] | ProviderError
Script = Sequence[Turn | Sequence[Turn]] | Callable[[Request], Turn]
ASSISTANT = '{"role":"assistant"'


class ScriptedModel:
    """Answers from ``script``; ``requests`` keeps every request that it was given."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self._used: dict[int, int] = {}

    def user_turn(self, text: str) -> str:
        return dump({"role": "user", "text": text})

    def tool_turn(self, outputs: Sequence[ToolOutput]) -> str:
        results = [[output.call.id, output.text, output.is_error] for output in outputs]
        return dump({"role": "tool", "results": results})

    def mask_tool_turn(self, fragment: str, notice: str) -> str:
        results = json.loads(fragment)["results"]
        return dump({"role": "tool", "results": [[id_, notice, False] for id_, _, _ in results]})

    def request_bytes(self, request: Request) -> int:
        tools = sum(len(dump(tool.schema)) + len(tool.description) for tool in request.tools)
        return tools + sum(len(part.encode()) for part in (*request.system, *request.history))

    def complete(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Reply:
        self.requests.append(request)
        turn = self._turn(request)
        if isinstance(turn, ProviderError):
            raise turn
        text = turn.get("text", "")
        if text and on_text is not None:
            on_text(text)
        calls = tuple(
            ToolCall(f"{len(request.history)}-{number}", call["name"], _arguments(call))
            for number, call in enumerate(turn.get("tool_calls", []))
        )
        stop = turn.get("stop") or ("tool_calls" if calls else "end")
        return Reply(text, calls, stop, self._usage(turn, request), _fragment(text, calls))

    def close(self) -> None:
        """Nothing is open."""

    def _turn(self, request: Request) -> Turn:
        if callable(self.script):
            return self.script(request)
        answered = sum(1 for fragment in request.history if fragment.startswith(ASSISTANT))
        if answered >= len(self.script):
            raise AssertionError(f"the script has no turn {answered}")
        turn = self.script[answered]
        if isinstance(turn, dict | ProviderError):
            return turn
        self._used[answered] = self._used.get(answered, 0) + 1
        return turn[min(self._used[answered], len(turn)) - 1]

    def _usage(self, turn: dict[str, Any], request: Request) -> Usage:
        size = self.request_bytes(request) // 4
        return Usage(**{"input": size, "output": 10, **turn.get("usage", {})})


def _arguments(call: dict[str, Any]) -> str:
    arguments = call.get("arguments", {})
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _fragment(text: str, calls: Sequence[ToolCall]) -> str:
    written = [[call.id, call.name, call.arguments] for call in calls]
    return f"{ASSISTANT},{dump({'text': text, 'calls': written})[1:]}"


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """Return a turn with one tool call."""
    return {"tool_calls": [{"name": name, "arguments": arguments}]}
