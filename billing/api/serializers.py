"""Money on the wire: credits, whole or decimal; the ledger keeps the exact figures."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from asynccoder.api.typed import Typed
from billing import ledger
from billing.models import LedgerEntry, SubscriptionPlan, SubscriptionUsage


@extend_schema_field(OpenApiTypes.NUMBER)
class Credits(serializers.Field[int, int, Any, Any]):
    """Microcredits inside, credits outside."""

    def to_representation(self, value: int) -> int | float:
        return ledger.as_credits(value)


class TransactionSerializer(serializers.ModelSerializer[LedgerEntry]):
    """S0's transaction. ``amount`` is the change of what the user has, held credits included."""

    amount = Credits(source="total_change")
    balance_after = Credits(source="total_after")
    free_after = Credits(source="balance_after")
    held_change = Credits()
    held_after = Credits()

    class Meta:
        model = LedgerEntry
        fields = [
            "id",
            "type",
            "kind",
            "amount",
            "description",
            "reference",
            "balance_after",
            "free_after",
            "held_change",
            "held_after",
            "created_at",
        ]


class PlanSerializer(serializers.ModelSerializer[SubscriptionPlan]):
    id = serializers.CharField(source="slug")
    price_usd = serializers.FloatField()

    class Meta:
        model = SubscriptionPlan
        fields = [
            "id",
            "name",
            "description",
            "price_usd",
            "monthly_credits",
            "concurrent_tasks",
            "requests_per_hour",
            "tasks_per_hour",
        ]


@extend_schema_field(
    {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
)
class Moment(serializers.Field[datetime, str, Any, Any]):
    """An ISO 8601 date or moment; ``is_end`` makes a bare date the end of that day."""

    def __init__(self, *, is_end: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.is_end = is_end

    def to_internal_value(self, data: str) -> datetime:
        # A "+" of an offset that was not escaped arrives as a blank.
        text = str(data).strip().replace(" ", "+")
        try:
            moment = parse_datetime(text) if "T" in text else None
            day = None if moment else parse_date(text)
        except ValueError:
            moment = day = None
        if day is not None:
            moment = datetime.combine(day, time()) + timedelta(days=self.is_end)
        if moment is None:
            raise serializers.ValidationError("Give an ISO 8601 date, such as 2026-01-31.")
        return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


class TransactionFilter(serializers.Serializer[None]):
    """Which transactions: by direction, the ledger's own kind, and time (end included)."""

    type = serializers.ChoiceField(choices=["credit", "debit"], required=False)
    kind = serializers.ChoiceField(choices=LedgerEntry.Kind.choices, required=False)
    start_date = Moment(required=False)
    end_date = Moment(required=False, is_end=True)


class SubscribeSerializer(Typed, serializers.Serializer[None]):
    """Which plan: its ``id`` in the list of plans."""

    plan = serializers.SlugField(max_length=40)


MONTH = {"type": "string", "pattern": r"^[1-9]\d{3}-(0[1-9]|1[0-2])$", "example": "2026-11"}


@extend_schema_field(MONTH)
class Month(serializers.DateField):
    """A month, such as 2026-11."""


class MonthFilter(serializers.Serializer[None]):
    """Which month's usage, such as 2026-11; the present one without it."""

    month = Month(input_formats=["%Y-%m"], required=False)


class SubscriptionUsageSerializer(serializers.ModelSerializer[SubscriptionUsage]):
    month = Month(source="period_start", format="%Y-%m")
    tasks = serializers.IntegerField(source="holds")
    credits_used = Credits(source="used_microcredits")
    credits_refunded = Credits(source="refunded_microcredits")

    class Meta:
        model = SubscriptionUsage
        fields = ["month", "plan", "tasks", "charges", "credits_used", "credits_refunded"]
