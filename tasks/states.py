"""A task's state in shape, word and colour, and what is said about it in one line."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.utils import timezone

from tasks.models import Status, Task


@dataclass(frozen=True, slots=True)
class Badge:
    icon: str
    word: str
    tone: str
    is_moving: bool = False


BADGES = {
    Status.PENDING: Badge("st-pending", "Pending", ""),
    Status.RUNNING: Badge("st-running", "Running", "run", is_moving=True),
    Status.COMPLETED: Badge("st-completed", "Completed", "ok"),
    Status.FAILED: Badge("st-failed", "Failed", "bad"),
    Status.CANCELLED: Badge("st-cancelled", "Cancelled", ""),
}
OUTCOMES = {
    "no_change_needed": Badge("st-same", "No change needed", "ok"),
    "blocked": Badge("st-blocked", "Blocked", "warn"),
}
PARKED = Badge("st-parked", "Parked", "warn")
CANCELLING = Badge("st-running", "Cancelling", "warn", is_moving=True)
# Whose fault a failure is: what the user can do differs (dashboard.md, 3.4).
OURS = frozenset({"internal_error", "worker_lost", "sandbox_lost", "sandbox_unavailable"})
MONEY = frozenset({"cap_reached", "out_of_credit", "calls_used_up", "deadline_passed"})


def badge_of(task: Task) -> Badge:
    """Return how the state is drawn; the shape alone tells it."""
    if task.is_finished:
        return OUTCOMES.get(task.outcome, BADGES[Status(task.status)])
    if task.cancel_requested_at:
        return CANCELLING
    return PARKED if task.is_parked else BADGES[Status(task.status)]


def fault_of(task: Task) -> str:
    """Say whose fault a failed task is and what follows from that."""
    if task.error_code in OURS:
        return "This was our fault. Repeated work is not charged."
    if task.error_code in MONEY:
        return "It reached a limit of the task or of your account. What was done is kept."
    return "Only the model calls that were made are charged."


def spent_percent(task: Task) -> float:
    """Return how much of its cap a task has spent, 0 to 100."""
    if not task.cap_microcredits:
        return 0.0
    return round(min(100.0, 100 * task.charged_microcredits / task.cap_microcredits), 2)


def runtime_of(task: Task) -> float | None:
    """Return the seconds since the task was started, or that it took; None before."""
    if task.started_at is None:
        return None
    end: dt.datetime = task.completed_at or timezone.now()
    return (end - task.started_at).total_seconds()
