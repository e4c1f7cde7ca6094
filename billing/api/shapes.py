"""What the routes of billing answer with, for the OpenAPI document alone."""

from __future__ import annotations

from rest_framework import serializers

from asynccoder.api.shapes import many, shape
from billing.api.serializers import PlanSerializer, SubscriptionUsageSerializer

OWN = {
    "credits": serializers.FloatField(),
    "held_credits": serializers.FloatField(),
    "total_credits_used": serializers.FloatField(),
}
CREDITS = shape("Credits", **OWN, subscription_tier=serializers.CharField())
USAGE = shape(
    "BillingUsage",
    **OWN,
    plan=PlanSerializer(allow_null=True),
    period=shape("Period", start=serializers.DateField(), end=serializers.DateField()),
    included_credits=serializers.IntegerField(),
    usage=SubscriptionUsageSerializer,
    days=many(
        shape("CreditsOfDay", day=serializers.DateField(), credits_used=serializers.FloatField())
    ),
    history=SubscriptionUsageSerializer(many=True),
)
