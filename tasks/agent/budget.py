"""The limits of a run, and what the loop counts against them.

Everything here is computed from recorded outcomes alone (the time comes with each reply), so that
a resumed run decides as the first one did.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.agent.errors import ModelGaveUp, OutOfBudget

CALLS_LEFT_WARNING = 4
OUTPUT_TOKENS = 16_384
"""The most output asked for in one call: what is reserved before a call grows with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """Bounds of one run (agent-design, section 4); times in seconds, sizes in tokens or characters."""

    calls: int = 75
    wrap_up_seconds: float = 1800
    deadline_seconds: float = 2700
    command_seconds: float = 120
    command_max_seconds: float = 600
    output_characters: int = 12_000
    malformed_replies: int = 3
    repair_steps: int = 3
    same_results: int = 4
    """A run is stuck when one call gave one result so often, ..."""
    same_failures: int = 3
    """... when one call failed so often, ..."""
    alternating_calls: int = 6
    """... when two calls took turns for so long (an even number), ..."""
    stale_changes: int = 15
    """... or when so many changing steps made no new difference."""
    summary_share: float = 0.70
    """The share of the window at which the conversation is summed up."""
    least_gain: float = 0.10
    """A cut of the conversation that gains less than this share is not made."""
    context_window: int = 128_000
    max_output_tokens: int = 8_192

    @property
    def output_tokens(self) -> int:
        """Return the output to ask for in one call; a small window keeps room for its input."""
        return max(min(self.max_output_tokens, OUTPUT_TOKENS, self.context_window // 4), 256)

    @property
    def shown_characters(self) -> int:
        """Return how much of one output is shown; a small window takes less."""
        return max(min(self.output_characters, self.context_window // 4), 1_000)


@dataclass(slots=True)
class Budget:
    """Model calls, time and malformed replies of one run."""

    limits: AgentLimits
    calls: int = 0
    seconds: float = 0.0
    malformed: int = 0
    _said: set[str] = field(default_factory=set)

    def begin_call(self) -> None:
        """Count a model call. Raises OutOfBudget when none is left or the time is over."""
        if self.calls >= self.limits.calls:
            raise OutOfBudget("calls", f"All {self.limits.calls} model calls are used.")
        if self.seconds >= self.limits.deadline_seconds:
            minutes = self.limits.deadline_seconds / 60
            raise OutOfBudget("time", f"The task ran into its deadline of {minutes:.0f} minutes.")
        self.calls += 1

    def replied(self, at: float) -> None:
        """Take over the run's time from a reply."""
        self.seconds = max(self.seconds, at)

    def count_malformed(self, why: str) -> None:
        """Count an unusable reply. Raises ModelGaveUp when there were too many in a row."""
        self.malformed += 1
        if self.malformed >= self.limits.malformed_replies:
            raise ModelGaveUp(
                "malformed_replies",
                f"The model gave {self.malformed} unusable replies in a row; the last: {why}"[:500],
            )

    def notice(self) -> str:
        """Return what the model must be told about its limits now, each thing once."""
        left = self.limits.calls - self.calls
        if self.seconds >= self.limits.wrap_up_seconds and self._say("time"):
            minutes = (self.limits.deadline_seconds - self.seconds) / 60
            return (
                f"Your time is nearly over: about {max(minutes, 0):.0f} minutes are left. "
                "Leave the work in a consistent state and call `finish` now."
            )
        if left <= CALLS_LEFT_WARNING and self._say("calls"):
            return f"Only {left} more replies are left to you. Wrap up and call `finish`."
        return ""

    def _say(self, what: str) -> bool:
        is_new = what not in self._said
        self._said.add(what)
        return is_new
