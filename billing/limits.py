"""What plans allow, for the layers below that ask (UPCALLS, plan_limits)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from billing.models import SubscriptionPlan

SECONDS = 30.0
"""How long a plan's row is believed: every request asks for it."""


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What a plan allows an account; the first two in an hour, the third at once."""

    requests_per_hour: int
    tasks_per_hour: int
    concurrent_tasks: int


_known: dict[str, tuple[float, PlanLimits | None]] = {}


def of_plan(slug: str) -> PlanLimits | None:
    """Return what a plan allows, switched off or not; None where there is no such plan."""
    now = time.monotonic()
    until, limits = _known.get(slug, (0.0, None))
    if now >= until:
        plan = SubscriptionPlan.objects.filter(slug=slug).first()
        limits = _limits(plan) if plan else None
        _known[slug] = (now + SECONDS, limits)
    return limits


def _limits(plan: SubscriptionPlan) -> PlanLimits:
    return PlanLimits(plan.requests_per_hour, plan.tasks_per_hour, plan.concurrent_tasks)


def forget() -> None:
    """Ask the table again: a plan has changed."""
    _known.clear()
