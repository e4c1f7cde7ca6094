"""How a user gets a plan: the tiers are rows of SubscriptionPlan, which staff edit."""

from __future__ import annotations

from accounts.models import User
from billing import limits
from billing.errors import PlanUnknown
from billing.models import SubscriptionPlan


def put_on_plan(user: User, slug: str) -> SubscriptionPlan:
    """Give the user an active plan and what it allows; raise PlanUnknown."""
    plan = SubscriptionPlan.objects.filter(slug=slug, is_active=True).first()
    if plan is None:
        raise PlanUnknown(f"There is no plan {slug!r}.")
    User.objects.filter(pk=user.pk).update(plan=plan.slug, concurrent_tasks=plan.concurrent_tasks)
    user.refresh_from_db(fields=["plan", "concurrent_tasks"])
    return plan


def change(plan: SubscriptionPlan) -> None:
    """Store a plan that staff edited; accounts that had what it allowed have what it allows now.

    An account whose number of concurrent tasks staff chose for it alone keeps that.
    """
    before = SubscriptionPlan.objects.filter(pk=plan.pk).first()
    plan.save()
    limits.forget()
    if before is not None and before.concurrent_tasks != plan.concurrent_tasks:
        User.objects.filter(plan=plan.slug, concurrent_tasks=before.concurrent_tasks).update(
            concurrent_tasks=plan.concurrent_tasks
        )
