"""Credits, their ledger, and the plans."""

from __future__ import annotations

from datetime import date
from typing import Any, cast

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from billing import checkout, ledger, usage
from billing.accounts import credits_of
from billing.api.serializers import (
    MonthFilter,
    PlanSerializer,
    SubscribeSerializer,
    SubscriptionUsageSerializer,
    TransactionFilter,
    TransactionSerializer,
)
from billing.api.shapes import CREDITS, USAGE
from billing.models import LedgerEntry, LedgerQuerySet, SubscriptionPlan, SubscriptionUsage


class CreditsView(APIView):
    """What the user has: free to spend, set aside by running tasks, spent so far."""

    @extend_schema(responses=CREDITS)
    def get(self, request: Request) -> Response:
        user = cast("User", request.user)
        return Response(credits_of(user) | {"subscription_tier": user.plan})


@extend_schema_view(list=extend_schema(parameters=[TransactionFilter]))
class TransactionViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[LedgerEntry]):
    """The user's own ledger, newest first; holds and releases when asked for by ``kind``."""

    serializer_class = TransactionSerializer
    plural = "transactions"

    def get_queryset(self) -> LedgerQuerySet:
        wanted = TransactionFilter(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        user = cast("User", self.request.user)
        # An administrator's "me" is one person too: visible_to alone would show everyone's.
        own = LedgerEntry.objects.visible_to(user).filter(account__user=user)
        return _filtered(own, wanted.validated_data)


class PlanViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[SubscriptionPlan]):
    serializer_class = PlanSerializer
    queryset = SubscriptionPlan.objects.filter(is_active=True)
    plural = "plans"


class SubscribeView(APIView):
    """Begin to pay for a plan."""

    @extend_schema(request=SubscribeSerializer, responses={200: None})
    def post(self, request: Request) -> Response:
        given = SubscribeSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        checkout.subscribe(given.validated_data["plan"])


class UsageView(APIView):
    """What the account used of its plan in a month, by day, and in the twelve newest months."""

    @extend_schema(parameters=[MonthFilter], responses=USAGE)
    def get(self, request: Request) -> Response:
        wanted = MonthFilter(data=request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        user = cast("User", request.user)
        month = wanted.validated_data.get("month") or usage.month_of(timezone.now().date())
        return Response(_usage(user, month))


def _usage(user: User, month: date) -> dict[str, Any]:
    own = SubscriptionUsage.objects.visible_to(user).filter(user=user)
    row = own.filter(period_start=month).first() or SubscriptionUsage(
        period_start=month, plan=user.plan
    )
    plan = SubscriptionPlan.objects.filter(slug=user.plan).first()
    last = usage.end_of(month)
    days = usage.spent_by_day(user, month, last)
    history = own.order_by("-period_start")[:12]
    return {
        "plan": PlanSerializer(plan).data if plan else None,
        "period": {"start": month, "end": last},
        **credits_of(user),
        "included_credits": plan.monthly_credits if plan else 0,
        "usage": SubscriptionUsageSerializer(row).data,
        "days": [
            {"day": day, "credits_used": ledger.as_credits(spent)} for day, spent in days.items()
        ],
        "history": SubscriptionUsageSerializer(history, many=True).data,
    }


def _filtered(entries: LedgerQuerySet, wanted: dict[str, Any]) -> LedgerQuerySet:
    entries = entries.filter(kind=wanted["kind"]) if "kind" in wanted else entries.settled()
    if "type" in wanted:
        entries = entries.of_type(wanted["type"])
    if "start_date" in wanted:
        entries = entries.filter(created_at__gte=wanted["start_date"])
    if "end_date" in wanted:
        entries = entries.filter(created_at__lte=wanted["end_date"])
    return entries.order_by("-sequence")
