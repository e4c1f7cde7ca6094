"""What the agent's loop needs of a model provider. Plain Python: no Django.

History is a list of already serialised fragments in the provider's own wire form; nothing is
serialised twice (agent-design, section 4). Adapters translate every SDK error into one of the
exceptions below; nothing outside this package catches an SDK error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol


class ProviderError(Exception):
    """The call did not give a usable answer. ``is_sent``: the provider may have billed it."""

    is_sent = False


class ProviderBusy(ProviderError):
    """Rate limit, overload, timeout or lost connection after the retries: park the run."""

    def __init__(
        self, message: str, *, retry_after: float | None = None, is_sent: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_sent = is_sent


class ProviderRefused(ProviderError):
    """The key was refused, has no access to the model, or is out of quota at the provider.

    ``reason`` is "key_refused" | "no_access" | "out_of_quota".
    """

    def __init__(self, message: str, *, reason: str = "key_refused") -> None:
        super().__init__(message)
        self.reason = reason


class ContextOverflow(ProviderError):
    """The conversation is longer than the model's window."""


class BadRequest(ProviderError):
    """The provider did not understand us: a wrong model name or an argument it does not take."""


class MalformedReply(ProviderError):
    """An answer that cannot be used: cut stream, corrupt chunk, no finish reason."""

    is_sent = True

    def __init__(self, message: str, *, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. ``input`` counts all input; ``cached`` and ``cache_written`` are shares of it.

    A provider that reports nothing is charged by an estimate of four bytes a token.
    """

    input: int = 0
    cached: int = 0
    cache_written: int = 0
    output: int = 0
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call as the model wrote it; ``arguments`` is raw JSON text, perhaps malformed."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. ``fragment`` is the assistant turn to append to the history as it is."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    stop_reason: str
    """"tool_calls" | "end" | "length" | "refusal"."""
    usage: Usage
    fragment: str
    at: float = 0.0
    """Seconds of the run when it came; kept with it so that a resumed run decides the same."""

    def to_json(self) -> str:
        # In ASCII: what a model writes may hold half a surrogate pair or a NUL.
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Reply:
        data = json.loads(text)
        return cls(
            text=data["text"],
            tool_calls=tuple(ToolCall(**call) for call in data["tool_calls"]),
            stop_reason=data["stop_reason"],
            usage=Usage(**data["usage"]),
            fragment=data["fragment"],
            at=data.get("at", 0.0),
        )


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it; ``schema`` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, object]


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The answer to one tool call."""

    call: ToolCall
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``system`` and ``tools`` never change during a run; ``history`` only grows."""

    system: Sequence[str]
    """Parts of the system prompt in cache order; a cache mark goes at the end of each."""
    history: Sequence[str]
    """Fragments made by this provider."""
    max_output_tokens: int
    tools: Sequence[ToolSpec] = field(default_factory=tuple)
    temperature: float | None = None


class Provider(Protocol):
    """One model of one provider, reached with one key."""

    def user_turn(self, text: str) -> str:
        """Return the fragment of a user's message."""
        ...

    def tool_turn(self, outputs: Sequence[ToolOutput]) -> str:
        """Return the fragment (or joined fragments) that answers every call of a reply."""
        ...

    def mask_tool_turn(self, fragment: str, notice: str) -> str:
        """Return the fragment of a tool turn with its outputs replaced by the notice."""
        ...

    def request_bytes(self, request: Request) -> int:
        """Return the size of the request's body: an upper bound of its input tokens."""
        ...

    def complete(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Reply:
        """Ask the model, streaming. Raises a ProviderError."""
        ...

    def close(self) -> None:
        """Close the connections; the provider is not used again."""
        ...
