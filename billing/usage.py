"""What an account used of its plan: a row a month, and the days from the ledger."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID

from django.db.models import F, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from accounts.models import User
from billing.models import LedgerEntry, SubscriptionUsage

Kind = LedgerEntry.Kind


def note(user_id: UUID, **added: int) -> None:
    """Add to the month's row. Only while the user's row is locked: nobody else makes it then."""
    start = month_of(timezone.now().date())
    row = SubscriptionUsage.objects.filter(user_id=user_id, period_start=start)
    if not row.update(
        updated_at=timezone.now(), **{name: F(name) + value for name, value in added.items()}
    ):
        plan = User.objects.values_list("plan", flat=True).get(pk=user_id)
        SubscriptionUsage.objects.create(user_id=user_id, period_start=start, plan=plan, **added)


def month_of(day: date) -> date:
    """Return the first day of the month (UTC) that the day is in."""
    return day.replace(day=1)


def end_of(month: date) -> date:
    """Return the last day of a month."""
    return month.replace(day=monthrange(month.year, month.month)[1])


def moments(first: date, last: date) -> tuple[datetime, datetime]:
    """Return the first and the last moment (UTC) of days, both included."""
    return datetime.combine(first, time.min, UTC), datetime.combine(last, time.max, UTC)


def spent_by_day(user: User, first: date, last: date) -> dict[date, int]:
    """Return the microcredits charged less refunded on each day (UTC) that has any; ends included."""
    days: Any = (
        LedgerEntry.objects.visible_to(user)
        .filter(account__user=user, kind__in=[Kind.CHARGE, Kind.REFUND])
        .filter(created_at__range=moments(first, last))
        .order_by()
        .values(day=TruncDate("created_at", tzinfo=UTC))
        .annotate(change=Sum(F("balance_change") + F("held_change")))
        .order_by("day")
    )
    return {row["day"]: -row["change"] for row in days}
