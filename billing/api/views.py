"""Credits, their ledger, and the plans."""

from __future__ import annotations

from typing import Any, cast

from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from billing.accounts import credits_of
from billing.api.serializers import PlanSerializer, TransactionFilter, TransactionSerializer
from billing.models import LedgerEntry, LedgerQuerySet, SubscriptionPlan


class CreditsView(APIView):
    """What the user has: free to spend, set aside by running tasks, spent so far."""

    def get(self, request: Request) -> Response:
        user = cast("User", request.user)
        return Response(credits_of(user) | {"subscription_tier": user.plan})


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


def _filtered(entries: LedgerQuerySet, wanted: dict[str, Any]) -> LedgerQuerySet:
    entries = entries.filter(kind=wanted["kind"]) if "kind" in wanted else entries.settled()
    if "type" in wanted:
        entries = entries.of_type(wanted["type"])
    if "start_date" in wanted:
        entries = entries.filter(created_at__gte=wanted["start_date"])
    if "end_date" in wanted:
        entries = entries.filter(created_at__lte=wanted["end_date"])
    return entries.order_by("-sequence")
