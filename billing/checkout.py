"""How a plan is paid for."""

from __future__ import annotations

from typing import NoReturn

from django.conf import settings

from billing.errors import PaymentsMissing, PaymentsNotSet, PlanUnknown
from billing.models import SubscriptionPlan


def subscribe(slug: str) -> NoReturn:
    """Begin to pay for a plan. Raises PlanUnknown, PaymentsNotSet or PaymentsMissing."""
    if not SubscriptionPlan.objects.filter(slug=slug, is_active=True).exists():
        raise PlanUnknown(f"There is no plan {slug!r}.")
    if not settings.STRIPE_SECRET_KEY:
        raise PaymentsNotSet(details={"setting": "STRIPE_SECRET_KEY"})
    raise PaymentsMissing
