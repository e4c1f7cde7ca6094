"""What a new account gets."""

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
