"""What the adapters share: clean text, fragments, and the pieces of a streamed answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aimodels.providers.base import MalformedReply, Reply, ToolCall, Usage
from asynccoder.lib import storable

REPLY_CHARACTERS = 4_000_000
"""More than any model may answer; an endpoint that goes on streaming is cut here."""
TOOL_CALLS = 64
BYTES_PER_TOKEN = 4


def clean(text: str) -> str:
    """Return the text without what neither a database nor a wire can carry: NUL, lone surrogates."""
    return storable.text(text)


def dump(value: object) -> str:
    """Return compact JSON that can be sent: a lone surrogate in it becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def tool_name(name: str) -> str:
    """Return a name that every provider accepts back in the history."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "unnamed"


def arguments_object(arguments: str) -> dict[str, Any]:
    """Return the arguments as an object; what is none becomes an empty one.

    A provider refuses a history that holds the malformed text a model once wrote.
    """
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class PartialCall:
    """A tool call while it is streamed."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    """What the provider wants back with the call, such as Gemini's thought signature."""


@dataclass(slots=True)
class Draft:
    """An answer while it is streamed. Text is handed to ``on_text`` as it comes."""

    on_text: Callable[[str], None] | None = None
    pieces: list[str] = field(default_factory=list)
    calls: list[PartialCall] = field(default_factory=list)
    finish: str = ""
    usage: Usage | None = None
    characters: int = 0
    has_begun: bool = False

    def add_text(self, text: str) -> None:
        text = clean(text)
        self.count(text)
        self.pieces.append(text)
        if text and self.on_text is not None:
            self.on_text(text)

    def add_arguments(self, call: PartialCall, text: str) -> None:
        self.count(text)
        call.arguments.append(text)

    def new_call(self) -> PartialCall:
        if len(self.calls) >= TOOL_CALLS:
            raise ValueError("too many tool calls in one reply")
        self.calls.append(PartialCall())
        return self.calls[-1]

    def count(self, text: str) -> None:
        self.characters += len(text)
        if self.characters > REPLY_CHARACTERS:
            raise ValueError("the reply does not end")

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Return the calls with an id each, unique within the reply."""
        seen: set[str] = set()
        finished = []
        for number, call in enumerate(self.calls):
            id_ = clean(call.id)[:128]
            if not id_ or id_ in seen:
                id_ = f"call_{number}_{len(seen)}"
            seen.add(id_)
            arguments = clean("".join(call.arguments))
            finished.append(ToolCall(id_, clean(call.name)[:200], arguments or "{}"))
        return tuple(finished)

    def known_usage(self, request_bytes: int) -> Usage:
        """Return the provider's figures, or an estimate where it gave none."""
        if self.usage is not None and (self.usage.input or self.usage.output):
            return self.usage
        return Usage(
            input=request_bytes // BYTES_PER_TOKEN,
            output=self.characters // BYTES_PER_TOKEN + 1,
            is_estimated=True,
        )

    def reply(self, stops: Mapping[str, str], fragment: str, request_bytes: int) -> Reply:
        """Return the finished reply. Raises MalformedReply where the stream did not end properly."""
        usage = self.known_usage(request_bytes)
        if not self.finish:
            raise MalformedReply("The answer ended without a finish reason.", usage=usage)
        stop = stops.get(self.finish.lower(), "end")
        calls = self.tool_calls()
        if stop == "end" and calls:
            stop = "tool_calls"
        return Reply(self.text, calls, stop, usage, fragment)


def is_same(kept: tuple[object, ...], asked: tuple[object, ...]) -> bool:
    """Tell whether a serialised head may be used again; the same objects are not compared deeply."""
    return all(one is other or one == other for one, other in zip(kept, asked, strict=True))


def whole(value: object) -> int:
    """Return a count of tokens that a provider reported; anything odd is zero."""
    return value if isinstance(value, int) and value > 0 else 0
