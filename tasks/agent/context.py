"""The conversation: serialised fragments that are only appended, and the rare cuts that save room.

A fragment is made once by the provider and then joined as it is. Two cuts exist. Old tool outputs
are masked in batches, so that the provider's prompt cache is lost seldom; near the end of the
window everything but the last turns becomes a summary. A cut that gains less than a tenth is not
made, and a tool call is never parted from its result. Both depend on recorded token counts only,
so a resumed run cuts at the same places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aimodels.providers.base import Provider, Reply, Request, ToolOutput, ToolSpec
from tasks.agent.budget import AgentLimits
from tasks.agent.output import clip

MASK_SHARE = 0.35
MASK_TOKENS = 64_000
KEPT_OUTPUTS = 8
SUMMARY_CHARACTERS = 12_000
MASKED_BYTES = 400
"""An output that is smaller is not worth masking."""
BYTES_PER_TOKEN = 3
"""For what was appended since the last count; a little low, so that estimates err upwards."""

Kind = Literal["user", "assistant", "tool"]


@dataclass(slots=True)
class Turn:
    """One turn; ``bytes`` is the size of its fragment on the wire."""

    kind: Kind
    bytes: int
    tools: str = ""
    is_masked: bool = False


class History:
    """What the model has been told and has said."""

    def __init__(
        self,
        provider: Provider,
        limits: AgentLimits,
        system: Sequence[str],
        tools: Sequence[ToolSpec],
    ) -> None:
        self.provider = provider
        self.limits = limits
        self.system = tuple(system)
        self.tools = tuple(tools)
        self.turns: list[Turn] = []
        self.fragments: list[str] = []
        head = Request(self.system, (provider.user_turn(""),), limits.output_tokens, self.tools)
        self.head_bytes = provider.request_bytes(head)
        self.appended_bytes = self.head_bytes
        """All bytes ever appended. It only grows, so its growth bounds the growth of a request."""
        self.tokens = 0
        """Tokens of the conversation when the provider last counted them, less what was cut."""
        self.uncounted_bytes = self.head_bytes
        self._digest = hashlib.sha256("\0".join(self.system).encode("utf-8", "replace"))

    # --- growing -------------------------------------------------------------------------------

    def add_user(self, text: str) -> None:
        self._append(self.provider.user_turn(text), Turn("user", 0))

    def add_reply(self, reply: Reply) -> None:
        self._append(reply.fragment, Turn("assistant", 0))
        self.tokens = reply.usage.input + reply.usage.output
        self.uncounted_bytes = 0

    def add_outputs(self, outputs: Sequence[ToolOutput]) -> None:
        names = ", ".join(dict.fromkeys(output.call.name[:40] for output in outputs))
        self._append(self.provider.tool_turn(outputs), Turn("tool", 0, tools=names))

    def _append(self, fragment: str, turn: Turn) -> None:
        encoded = fragment.encode("utf-8", "replace")
        turn.bytes = len(encoded)
        self.turns.append(turn)
        self.fragments.append(fragment)
        self.appended_bytes += len(encoded) + 1
        self.uncounted_bytes += len(encoded)
        self._digest.update(encoded)

    # --- asking --------------------------------------------------------------------------------

    def request(self, *, extra: str = "") -> Request:
        """Return the next request; ``extra`` is a last user's message that is not kept."""
        turns = (*self.fragments, self.provider.user_turn(extra)) if extra else (*self.fragments,)
        return Request(self.system, turns, self.limits.output_tokens, self.tools)

    @property
    def digest(self) -> str:
        """Return a digest of all that was said, kept up to date turn by turn."""
        return self._digest.copy().hexdigest()

    @property
    def estimate(self) -> int:
        """Return about how many tokens the next request has."""
        return self.tokens + self.uncounted_bytes // BYTES_PER_TOKEN

    @property
    def bytes(self) -> int:
        return self.head_bytes + sum(turn.bytes for turn in self.turns)

    # --- masking -------------------------------------------------------------------------------

    def is_long(self) -> bool:
        return self.estimate >= min(MASK_SHARE * self.limits.context_window, MASK_TOKENS)

    def is_nearly_full(self) -> bool:
        return self.estimate >= self.limits.summary_share * self.limits.context_window

    def mask(self, *, keep: int = KEPT_OUTPUTS) -> bool:
        """Mask all tool outputs but the last ``keep``; tell whether it was worth doing."""
        chosen = self._maskable(keep)
        gain = sum(self.turns[index].bytes - MASKED_BYTES // 2 for index in chosen)
        if not chosen or gain < self.limits.least_gain * self.bytes:
            return False
        before = self.bytes
        for index in chosen:
            self._mask_turn(index)
        self._cut(before, f"masked {chosen[0]}-{chosen[-1]}")
        return True

    def _maskable(self, keep: int) -> list[int]:
        outputs = [index for index, turn in enumerate(self.turns) if turn.kind == "tool"]
        old = outputs[:-keep] if keep else outputs
        turns = self.turns
        return [i for i in old if not turns[i].is_masked and turns[i].bytes > MASKED_BYTES]

    def _mask_turn(self, index: int) -> None:
        turn = self.turns[index]
        notice = f"[{turn.tools}: an old output, left out here to save room. Ask again if needed.]"
        self.fragments[index] = self.provider.mask_tool_turn(self.fragments[index], notice)
        turn.bytes = len(self.fragments[index].encode("utf-8", "replace"))
        turn.is_masked = True

    # --- summing up ----------------------------------------------------------------------------

    def tail_start(self) -> int:
        """Return where the turns begin that a summary leaves as they are: at a reply of the model.

        They are the last turns that make up at most a fifth of the window, at least one reply
        with its results.
        """
        replies = [i for i, turn in enumerate(self.turns) if turn.kind == "assistant" and i > 0]
        if not replies:
            return len(self.turns)
        room = self.limits.context_window * BYTES_PER_TOKEN // 5
        start = replies[-1]
        for index in reversed(replies):
            if sum(turn.bytes for turn in self.turns[index:]) > room:
                break
            start = index
        return start

    @property
    def summary_characters(self) -> int:
        return min(SUMMARY_CHARACTERS, self.limits.context_window * BYTES_PER_TOKEN // 10)

    def can_sum_up(self, opening: str) -> bool:
        """Tell whether even the longest summary would gain enough; ask before it is paid for."""
        size = len(opening.encode("utf-8", "replace")) + self.summary_characters
        return self._gain(size) >= self.limits.least_gain * self.bytes

    def sum_up(self, opening: str, summary: str) -> bool:
        """Replace all but the last turns by the task and a summary; tell whether it was worth it."""
        summary = clip(summary, self.summary_characters)
        fragment = self.provider.user_turn(f"{opening}\n\n{summary}")
        size = len(fragment.encode("utf-8", "replace"))
        if self._gain(size) < self.limits.least_gain * self.bytes:
            return False
        before, start = self.bytes, self.tail_start()
        self.turns[:start] = [Turn("user", size)]
        self.fragments[:start] = [fragment]
        self.appended_bytes += size
        self._cut(before, f"summed up {start}\0{summary}")
        return True

    def _gain(self, size: int) -> int:
        return sum(turn.bytes for turn in self.turns[: self.tail_start()]) - size

    def _cut(self, before: int, what: str) -> None:
        """Lower the count by the share of the bytes that went, and note the cut in the digest."""
        total = self.estimate
        self.tokens = total * self.bytes // max(before, 1)
        self.uncounted_bytes = 0
        self._digest.update(what.encode("utf-8", "replace"))
