"""How an engine's run ends early. The runner turns each into a terminal state; no Django here."""

from __future__ import annotations


class OutOfBudget(Exception):
    """A limit of the run is reached; ``limit`` is "calls" | "money" | "balance" | "time"."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class ModelGaveUp(Exception):
    """The model cannot go on: malformed replies in a row, a refusal, a conversation too long."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
