"""AI models with their prices, and the keys that reach their providers."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q, Sum
from django.db.models.functions import Coalesce

from accounts.models import User
from aimodels.prices import Prices, microcredits, per_million
from aimodels.providers.base import Usage

TASK_TYPES = (
    "debug",
    "ask",
    "documentation",
    "architect",
    "pr_review",
    "build",
    "implement",
    "analysis",
)
"""What a language model can do; ``tasks`` has a test that these are its types."""


class ProviderKind(models.TextChoices):
    ANTHROPIC = "anthropic", "Anthropic"
    OPENAI = "openai", "OpenAI"
    GEMINI = "gemini", "Google Gemini"
    CUSTOM = "custom", "OpenAI-compatible"
    AIDER = "aider", "Aider"
    BUILTIN = "builtin", "Built-in"


class AIModelQuerySet(models.QuerySet["AIModel"]):
    def visible_to(self, user: User) -> AIModelQuerySet:
        """Return the shared models and the user's own; an administrator sees all."""
        if not user.is_authenticated:
            return self.none()
        if user.is_admin:
            return self
        return self.filter(Q(owner=None) | Q(owner=user))

    def active(self) -> AIModelQuerySet:
        return self.filter(is_active=True)

    def shown_to(self, user: User) -> AIModelQuerySet:
        """Return what a list of models holds: the active ones, and the user's own in any state."""
        return self.visible_to(user).filter(Q(is_active=True) | Q(owner=user))

    def priced(self) -> AIModelQuerySet:
        return self.exclude(Q(input_price=None) | Q(output_price=None))

    def for_use_by(self, user: User) -> AIModelQuerySet:
        """Return the active models that the user may give work to: shared or the user's own.

        Unlike ``visible_to`` this is the same for an administrator: another's model runs on
        another's endpoint and key.
        """
        return self.active().filter(Q(owner=None) | Q(owner=user))


class AIModel(models.Model):
    """A model that can do tasks. Prices are US$ per token; a null price is unknown: refused."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="own_models",
        help_text="Empty for a model of the platform.",
    )
    provider = models.CharField(max_length=20, choices=ProviderKind)
    name = models.CharField(max_length=120, help_text="The provider's own name of the model.")
    display_name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    base_url = models.URLField(max_length=500, blank=True, help_text="Custom models only.")
    context_window = models.PositiveIntegerField(default=128_000, help_text="Tokens.")
    max_output_tokens = models.PositiveIntegerField(default=8_192)
    input_price = models.DecimalField(max_digits=18, decimal_places=12, null=True, blank=True)
    cached_input_price = models.DecimalField(
        max_digits=18, decimal_places=12, null=True, blank=True
    )
    cache_write_price = models.DecimalField(max_digits=18, decimal_places=12, null=True, blank=True)
    output_price = models.DecimalField(max_digits=18, decimal_places=12, null=True, blank=True)
    price_rules: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(
        default=list,
        blank=True,
        help_text='Other prices from a day on or above a prompt size: [{"from", "above", prices}].',
    )
    capabilities: models.JSONField[list[str], list[str]] = models.JSONField(
        default=list, blank=True, help_text="Task types the model can do."
    )
    edit_format = models.CharField(max_length=20, default="edit")
    priced_at = models.DateField(null=True, blank=True, help_text="Date of the price table.")
    preference = models.PositiveSmallIntegerField(
        default=100, help_text="Lower is chosen first when a request names no model."
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[Any] = AIModelQuerySet.as_manager()

    class Meta:
        verbose_name = "AI model"
        ordering = ["provider", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "name"], condition=Q(owner=None), name="model_unique"
            ),
            models.UniqueConstraint(
                fields=["owner", "name"], condition=~Q(owner=None), name="own_model_unique"
            ),
        ]

    def __str__(self) -> str:
        return self.display_name or self.name

    def can(self, task_type: str) -> bool:
        return task_type in self.capabilities

    @property
    def input_price_per_million(self) -> str | None:
        """Return US$ per million input tokens, as price lists write it."""
        return per_million(self.input_price)

    @property
    def output_price_per_million(self) -> str | None:
        return per_million(self.output_price)

    def cost_microcredits(self, usage: Usage) -> int:
        """Return what a call cost, rounded up; raise PriceUnknown when a needed price is null."""
        return microcredits(self.prices(usage.input).usd(usage))

    def worst_case_microcredits(self, input_tokens: int, output_tokens: int) -> int:
        """Return the most that a call of at most so many tokens can cost; raise PriceUnknown."""
        steps = {rule["above"] + 1 for rule in self.price_rules if rule["above"] < input_tokens}
        worst = max(
            self.prices(size).worst_usd(input_tokens=input_tokens, output_tokens=output_tokens)
            for size in {0, input_tokens} | steps
        )
        return microcredits(worst)

    def prices(self, input_tokens: int, *, on: date | None = None) -> Prices:
        """Return the prices for a prompt of this size on a day (today); the last rule wins."""
        day = (on or datetime.now(UTC).date()).isoformat()
        for rule in reversed(self.price_rules):
            if max(input_tokens, 1) > rule["above"] and (rule["from"] or "") <= day:
                return Prices.of(rule)
        return Prices(
            self.input_price, self.cached_input_price, self.cache_write_price, self.output_price
        )


class ProviderConfig(models.Model):
    """S1's ``ai_provider_configs``: the platform's own access to a provider, edited by staff."""

    provider = models.CharField(max_length=20, choices=ProviderKind, unique=True)
    base_url = models.URLField(max_length=500, blank=True)
    sealed_key = models.TextField(blank=True, editable=False)
    is_active = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.get_provider_display()


class KeyProvider(models.Model):
    """S1's ``api_key_providers``: whose keys users may bring. Staff switch them on and off."""

    slug = models.CharField(primary_key=True, max_length=20, choices=ProviderKind)
    name = models.CharField(max_length=60)
    key_url = models.URLField(max_length=500, blank=True, help_text="Where people get a key.")
    is_active = models.BooleanField(
        default=True, help_text="Off: no new keys, and those that are stored are not used."
    )

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name


class ProviderKeyQuerySet(models.QuerySet["ProviderKey"]):
    def visible_to(self, user: User) -> ProviderKeyQuerySet:
        """Return the user's own keys; nobody sees another's, not even masked."""
        return self.filter(user=user) if user.is_authenticated else self.none()

    def usable(self) -> ProviderKeyQuerySet:
        """Return the keys that neither their owner nor, for the provider, staff switched off."""
        off = KeyProvider.objects.filter(is_active=False).values("slug")
        return self.filter(is_active=True).exclude(provider__in=off)


class ProviderKey(models.Model):
    """S1's ``api_keys``: a user's own key at a provider, encrypted at rest, shown masked."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="provider_keys"
    )
    provider = models.CharField(max_length=20, choices=ProviderKind)
    name = models.CharField(max_length=100, blank=True)
    sealed_key = models.TextField(editable=False)
    masked = models.CharField(max_length=30, editable=False)
    is_active = models.BooleanField(default=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[Any] = ProviderKeyQuerySet.as_manager()

    class Meta:
        ordering = ["provider", "-created_at"]

    def __str__(self) -> str:
        return f"{self.provider} {self.masked}"


class KeyUsageQuerySet(models.QuerySet["KeyUsage"]):
    def visible_to(self, user: User) -> KeyUsageQuerySet:
        """Return the log of the user's own keys, those that were removed included."""
        return self.filter(user=user) if user.is_authenticated else self.none()


class KeyUsage(models.Model):
    """S1's ``api_key_usage_logs``: one call with a user's own key. ``aimodels.usage`` writes it.

    It outlives the key, so it holds the key's id and mask instead of a reference.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="key_usage"
    )
    key_id = models.UUIDField()
    masked = models.CharField(max_length=30, blank=True)
    provider = models.CharField(max_length=20, choices=ProviderKind)
    model_name = models.CharField(max_length=120)
    reference = models.CharField(max_length=120, help_text="Such as task:<id>:call:3, or trial.")
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    price_usd = models.DecimalField(
        max_digits=18,
        decimal_places=9,
        null=True,
        blank=True,
        help_text="What the provider asks for it by our price table; empty when unknown.",
    )
    duration_ms = models.PositiveBigIntegerField(default=0)
    failure = models.CharField(max_length=40, blank=True, help_text="Empty when it was answered.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = KeyUsageQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "key usage"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["user", "-created_at"], name="key_usage_newest"),
            models.Index(fields=["key_id", "-created_at"], name="key_usage_of_key"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.masked} {self.reference}"


class ModelUsageQuerySet(models.QuerySet["ModelUsage"]):
    def visible_to(self, user: User) -> ModelUsageQuerySet:
        """Return the user's own figures; an administrator sees all."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_admin else self.filter(user=user)

    def since(self, day: date) -> ModelUsageQuerySet:
        return self.filter(day__gte=day)

    def totals(self) -> dict[str, int]:
        """Return the sums of all rows, 0 where there is none."""
        sums = {name: Coalesce(Sum(name), 0) for name in ModelUsage.COUNTERS}
        return dict(self.aggregate(**sums))


class ModelUsage(models.Model):
    """S1's ``model_usage_stats``: what a user's runs used of a model in a day (UTC)."""

    COUNTERS: ClassVar[tuple[str, ...]] = (
        "calls",
        "failures",
        "own_key_calls",
        "input_tokens",
        "cached_tokens",
        "output_tokens",
        "charged_microcredits",
        "duration_ms",
    )

    model = models.ForeignKey(AIModel, on_delete=models.CASCADE, related_name="usage")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="model_usage"
    )
    task_type = models.CharField(max_length=15)
    repository_id = models.UUIDField(null=True, blank=True)
    day = models.DateField()
    calls = models.PositiveBigIntegerField(default=0, help_text="Failures included.")
    failures = models.PositiveBigIntegerField(default=0)
    own_key_calls = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    charged_microcredits = models.PositiveBigIntegerField(default=0)
    duration_ms = models.PositiveBigIntegerField(default=0, help_text="Of all calls together.")

    objects: ClassVar[Any] = ModelUsageQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "model usage"
        ordering = ["-day", "model"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "day", "model", "task_type", "repository_id"],
                condition=Q(repository_id__isnull=False),
                name="model_usage_unique",
            ),
            models.UniqueConstraint(
                fields=["user", "day", "model", "task_type"],
                condition=Q(repository_id__isnull=True),
                name="model_usage_unique_without_repository",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.model_id} {self.task_type}"
