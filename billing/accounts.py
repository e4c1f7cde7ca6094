"""What a new account gets, and what the layers below may ask about its credits."""

from __future__ import annotations

from django.conf import settings

from accounts.models import User
from billing import ledger, plans
from billing.errors import PlanUnknown


def on_account_created(user: User) -> None:
    """Grant the sign-up credits, once for ever, and apply the plan (UPCALLS, account_created)."""
    ledger.account_of(user.pk)
    if settings.SIGNUP_CREDITS > 0:
        ledger.grant(
            user_id=user.pk,
            microcredits=settings.SIGNUP_CREDITS * ledger.MICROCREDITS,
            reference=f"signup:{user.pk}",
            description="Welcome",
        )
    try:
        plans.put_on_plan(user, user.plan)
    except PlanUnknown:
        # A deployment may have switched its plans off; the account's own limits then stay.
        return


def credits_of(user: User) -> dict[str, int | float]:
    """Return what a profile shows (UPCALLS, credits_of)."""
    now = ledger.balance(user.pk)
    return {
        "credits": ledger.as_credits(now.balance),
        "held_credits": ledger.as_credits(now.held),
        "total_credits_used": ledger.as_credits(now.spent),
    }
