"""Seeing that a run goes round in circles, from its recorded calls and results alone."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import dataclass, field

from tasks.agent.output import one_line

SAME_RESULT = 4
SAME_FAILURE = 3
ALTERNATION = 6
CHANGES_WITHOUT_DIFF = 15
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

    recent: deque[Act] = field(default_factory=lambda: deque(maxlen=ALTERNATION))
    changes: int = 0
    stale_looks: int = 0
    diffs: set[str] = field(default_factory=lambda: {digest_of_diff("")})

    def saw(self, act: Act) -> None:
        self.recent.append(act)

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
        acts = list(self.recent)
        if self._same(acts, SAME_RESULT, by_result=True):
            return f"the same call gave the same result {SAME_RESULT} times: {acts[-1].shown}"
        if self._same(acts, SAME_FAILURE) and all(a.is_error for a in acts[-SAME_FAILURE:]):
            return f"the same call failed {SAME_FAILURE} times: {acts[-1].shown}"
        if self._alternates(acts):
            return f"two calls take turns without any change: {acts[-2].shown} and {acts[-1].shown}"
        if self.stale_looks * CHANGES_PER_LOOK >= CHANGES_WITHOUT_DIFF:
            return f"{CHANGES_WITHOUT_DIFF} changing steps left the files as they had been before"
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

    @staticmethod
    def _alternates(acts: list[Act]) -> bool:
        if len(acts) < ALTERNATION:
            return False
        keys = [(a.call, a.result) for a in acts]
        return len(set(keys)) == 2 and keys[0::2] == [keys[0]] * 3 and keys[1::2] == [keys[1]] * 3
