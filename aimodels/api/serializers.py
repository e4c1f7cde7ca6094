"""Models and keys on the wire. A stored key is never returned."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from aimodels import keys
from aimodels.models import TASK_TYPES, AIModel, KeyProvider, KeyUsage, ProviderKey
from asynccoder.api.typed import Typed

# US$ per token; dearer than any model, and small enough for the column.
HIGHEST_PRICE = 1


class AIModelSerializer(serializers.ModelSerializer[AIModel]):
    """S0's model, with our own fields beside: prices are US$ per token, sizes are tokens."""

    cost_per_token = serializers.FloatField(source="input_price")
    max_tokens = serializers.IntegerField(source="context_window")
    input_price = serializers.FloatField()
    cached_input_price = serializers.FloatField()
    cache_write_price = serializers.FloatField(allow_null=True)
    output_price = serializers.FloatField()
    is_usable = serializers.SerializerMethodField()
    is_own = serializers.SerializerMethodField()
    base_url = serializers.SerializerMethodField()

    class Meta:
        model = AIModel
        fields = [
            "id",
            "name",
            "display_name",
            "provider",
            "description",
            "cost_per_token",
            "max_tokens",
            "max_output_tokens",
            "input_price",
            "cached_input_price",
            "cache_write_price",
            "output_price",
            "price_rules",
            "priced_at",
            "capabilities",
            "edit_format",
            "is_active",
            "is_usable",
            "is_own",
            "base_url",
        ]

    def get_is_usable(self, model: AIModel) -> bool:
        return model.pk in self.context["usable"]

    def get_is_own(self, model: AIModel) -> bool:
        return bool(model.owner_id == self.context["user"].pk)

    def get_base_url(self, model: AIModel) -> str:
        """Return the address of the user's own model; another's is nobody's business."""
        return model.base_url if self.get_is_own(model) else ""


class Price(serializers.DecimalField):
    """US$ per token, exact; at least 0."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            max_digits=18, decimal_places=12, min_value=0, max_value=HIGHEST_PRICE, **kwargs
        )


class OwnModelSerializer(Typed, serializers.Serializer[AIModel]):
    """A user's own model. Without prices it counts as free: the user pays its provider."""

    name = serializers.CharField(max_length=120)
    base_url = serializers.URLField(max_length=500)
    display_name = serializers.CharField(max_length=120, required=False)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True)
    context_window = serializers.IntegerField(min_value=4_000, max_value=20_000_000, required=False)
    max_output_tokens = serializers.IntegerField(min_value=256, max_value=1_000_000, required=False)
    input_price = Price(required=False)
    cached_input_price = Price(required=False)
    output_price = Price(required=False)
    capabilities = serializers.ListField(
        child=serializers.ChoiceField(choices=TASK_TYPES), required=False, max_length=20
    )
    is_active = serializers.BooleanField(required=False)


class TrialSerializer(Typed, serializers.Serializer[None]):
    """Which model to try: by id or by name."""

    model_id = serializers.UUIDField(required=False)
    name = serializers.CharField(max_length=120, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError("Give either model_id or name.")
        return attrs


class ProviderKeySerializer(Typed, serializers.ModelSerializer[ProviderKey]):
    """A stored key; ``key`` is written, ``masked`` is what can be seen of it."""

    provider = serializers.ChoiceField(choices=[(kind, kind.label) for kind in keys.KEYED])
    key = serializers.CharField(write_only=True, max_length=keys.LONGEST, trim_whitespace=True)

    class Meta:
        model = ProviderKey
        fields = [
            "id",
            "provider",
            "name",
            "key",
            "masked",
            "is_active",
            "last_used_at",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["masked", "last_used_at", "created_at", "updated_at"]


class KeyProviderSerializer(serializers.ModelSerializer[KeyProvider]):
    """Whose keys may be stored; ``id`` is what a key's ``provider`` says."""

    id = serializers.CharField(source="slug")

    class Meta:
        model = KeyProvider
        fields = ["id", "name", "key_url"]


class KeyUsageSerializer(serializers.ModelSerializer[KeyUsage]):
    """One call with a user's own key; ``price_usd`` is the provider's by our table, or null."""

    model = serializers.CharField(source="model_name")
    price_usd = serializers.FloatField(allow_null=True)

    class Meta:
        model = KeyUsage
        fields = [
            "id",
            "key_id",
            "masked",
            "provider",
            "model",
            "reference",
            "input_tokens",
            "cached_tokens",
            "output_tokens",
            "price_usd",
            "duration_ms",
            "failure",
            "created_at",
        ]


class KeyUsageFilter(serializers.Serializer[None]):
    """Which entries of the log: of one key."""

    key_id = serializers.UUIDField(required=False)
