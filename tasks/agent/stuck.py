"""Seeing that a run goes round in circles, from its recorded calls and results alone."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import dataclass, field

from tasks.agent.budget import AgentLimits
from tasks.agent.output import one_line

CHANGES_PER_LOOK = 5
PASSING = re.compile(r"\d+\.\d+|0x[0-9a-fA-F]+|\b\d{1,2}:\d\d(:\d\d)?\b")
"""What differs between two runs of the same command that did the same: durations, addresses, times."""


@dataclass(frozen=True, slots=True)
class Act:
    """A tool call and how it came out, as far as sameness goes."""

    call: str
    result: str
    is_error: bool
    shown: str


def act(name: str, arguments: str, result: str, *, is_error: bool) -> Act:
    call = hashlib.sha256(f"{name}\0{arguments}".encode("utf-8", "replace")).hexdigest()
    outcome = hashlib.sha256(PASSING.sub("#", result).encode("utf-8", "replace")).hexdigest()
    return Act(call, outcome, is_error, f"{name} {one_line(arguments, 160)}")


def digest_of_diff(diff: str) -> str:
    return hashlib.sha256(diff.encode("utf-8", "replace")).hexdigest()


@dataclass(slots=True)
class StuckWatch:
    """Remembers the last acts. ``evidence`` says what repeats, or "" while nothing does."""

    limits: AgentLimits = field(default_factory=AgentLimits)
    recent: deque[Act] = field(default_factory=deque)
    changes: int = 0
    stale_looks: int = 0
    diffs: set[str] = field(default_factory=lambda: {digest_of_diff("")})

    def saw(self, act: Act) -> None:
        limits = self.limits
        self.recent.append(act)
        if len(self.recent) > max(
            limits.same_results, limits.same_failures, limits.alternating_calls
        ):
            self.recent.popleft()

    def is_diff_due(self, *, changes: bool) -> bool:
        """Count a changing step; tell whether it is time to look at the difference again."""
        self.changes += changes
        return self.changes >= CHANGES_PER_LOOK

    def saw_diff(self, digest: str) -> None:
        """Take the digest of the difference; one that was there before is no progress."""
        self.changes = 0
        self.stale_looks = self.stale_looks + 1 if digest in self.diffs else 0
        self.diffs.add(digest)

    def evidence(self) -> str:
        acts, limits = list(self.recent), self.limits
        if self._same(acts, limits.same_results, by_result=True):
            times = limits.same_results
            return f"the same call gave the same result {times} times: {acts[-1].shown}"
        times = limits.same_failures
        if self._same(acts, times) and all(a.is_error for a in acts[-times:]):
            return f"the same call failed {times} times: {acts[-1].shown}"
        if self._alternates(acts[-limits.alternating_calls :]):
            return f"two calls take turns without any change: {acts[-2].shown} and {acts[-1].shown}"
        if self.stale_looks * CHANGES_PER_LOOK >= limits.stale_changes:
            changes = limits.stale_changes
            return f"{changes} changing steps left the files as they had been before"
        return ""

    def forget(self) -> None:
        """Begin anew after the model was told."""
        self.recent.clear()
        self.stale_looks = self.changes = 0

    @staticmethod
    def _same(acts: list[Act], times: int, *, by_result: bool = False) -> bool:
        last = acts[-times:]
        keys = {(a.call, a.result if by_result else "") for a in last}
        return len(last) == times and len(keys) == 1

    def _alternates(self, acts: list[Act]) -> bool:
        if len(acts) < self.limits.alternating_calls:
            return False
        keys = [(a.call, a.result) for a in acts]
        return len(set(keys)) == 2 and all(
            key == keys[number % 2] for number, key in enumerate(keys)
        )
