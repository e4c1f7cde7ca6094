"""What the routes of models answer with, for the OpenAPI document alone."""

from __future__ import annotations

from rest_framework import serializers

from aimodels.api.serializers import AIModelSerializer
from aimodels.models import AIModel
from asynccoder.api.shapes import shape

USAGE = shape(
    "ModelUsage",
    calls=serializers.IntegerField(),
    input_tokens=serializers.IntegerField(),
    cached_tokens=serializers.IntegerField(),
    output_tokens=serializers.IntegerField(),
    days=serializers.IntegerField(),
    credits_used=serializers.FloatField(),
    average_duration_ms=serializers.IntegerField(allow_null=True),
)


class ModelWithUsageSerializer(AIModelSerializer):
    """A model, and what the user's own runs used of it."""

    usage = USAGE

    class Meta:
        model = AIModel
        fields = [*AIModelSerializer.Meta.fields, "usage"]


TRIAL = shape(
    "Trial",
    model_id=serializers.UUIDField(),
    name=serializers.CharField(),
    works=serializers.BooleanField(),
    outcome=serializers.CharField(),
    message=serializers.CharField(),
    latency_ms=serializers.IntegerField(),
)
