"""The built-in engine: no key, no network, the same answer for the same repository."""

from __future__ import annotations

from collections.abc import Callable

from tasks.agent.ports import Assignment, Bench, Handback
from tasks.builtin import analysis, ask, debug, documentation, review

ENGINES: dict[str, Callable[[Assignment, Bench], Handback]] = {
    "analysis": analysis.analyse,
    "ask": ask.answer,
    "debug": debug.cure,
    "documentation": documentation.document,
    "pr_review": review.review,
}
"""What the engine can do, by task type."""


def run_builtin(assignment: Assignment, bench: Bench) -> Handback:
    """Do the task with analysers and safe automatic fixes; never with guesses."""
    engine = ENGINES.get(assignment.type)
    if engine is None:
        return Handback("blocked", f"The built-in engine cannot do {assignment.type} tasks.")
    return engine(assignment, bench)
