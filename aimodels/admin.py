"""Models and access to their providers, for staff. A stored key is written, never shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import URLField
from django.http import HttpRequest

from aimodels import keys
from aimodels.errors import KeyRefused
from aimodels.models import (
    AIModel,
    KeyProvider,
    KeyUsage,
    ModelUsage,
    ProviderConfig,
    ProviderKey,
)
from aimodels.prices import MICROCREDITS
from asynccoder.lib.admin import ReadOnly


@admin.register(AIModel)
class AIModelAdmin(admin.ModelAdmin[AIModel]):
    list_display = [
        "display_name",
        "provider",
        "name",
        "owner",
        "context_window",
        "input_price",
        "output_price",
        "priced_at",
        "preference",
        "is_active",
    ]
    list_editable = ["preference", "is_active"]
    list_filter = ["provider", "is_active", "priced_at"]
    list_select_related = ["owner"]
    search_fields = ["name", "display_name", "owner__username", "owner__email"]
    raw_id_fields = ["owner"]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}


class ProviderConfigForm(forms.ModelForm[ProviderConfig]):
    """The address, and a field to write a new key into; what is stored stays unseen."""

    base_url = forms.URLField(required=False, max_length=500, assume_scheme="https")
    key = forms.CharField(
        required=False,
        max_length=keys.LONGEST,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Leave empty to keep the stored key.",
    )
    clear_key = forms.BooleanField(required=False, help_text="Forget the stored key.")

    class Meta:
        model = ProviderConfig
        fields = ["provider", "base_url", "is_active"]

    def clean_key(self) -> str:
        plain: str = self.cleaned_data["key"]
        try:
            return keys.cleaned(plain) if plain else ""
        except KeyRefused as error:
            raise forms.ValidationError(error.message) from None


@admin.register(ProviderConfig)
class ProviderConfigAdmin(admin.ModelAdmin[ProviderConfig]):
    form = ProviderConfigForm
    list_display = ["provider", "base_url", "has_key", "is_active", "updated_at"]
    list_filter = ["is_active"]
    search_fields = ["provider", "base_url"]

    @admin.display(boolean=True, description="key")
    def has_key(self, config: ProviderConfig) -> bool:
        return bool(config.sealed_key)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # The key is sealed to its provider.
        return ["provider"] if obj else []

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        given = form.cleaned_data
        if given["key"] or given["clear_key"]:
            keys.configure(obj, plain="" if given["clear_key"] else given["key"])
        else:
            obj.save()


@admin.register(ProviderKey)
class ProviderKeyAdmin(admin.ModelAdmin[ProviderKey]):
    list_display = ["user", "provider", "name", "masked", "is_active", "last_used_at", "created_at"]
    list_filter = ["provider", "is_active", "created_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email", "name"]
    fields = ["user", "provider", "name", "masked", "is_active", "last_used_at", "created_at"]
    readonly_fields = ["user", "provider", "name", "masked", "last_used_at", "created_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(KeyProvider)
class KeyProviderAdmin(admin.ModelAdmin[KeyProvider]):
    list_display = ["slug", "name", "key_url", "is_active"]
    list_filter = ["is_active"]
    search_fields = ["slug", "name"]
    list_editable = ["is_active"]
    readonly_fields = ["slug"]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}

    # The rows are the providers that the platform can speak to.
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(KeyUsage)
class KeyUsageAdmin(ReadOnly, admin.ModelAdmin[KeyUsage]):
    list_display = [
        "created_at",
        "user",
        "provider",
        "masked",
        "model_name",
        "input_tokens",
        "output_tokens",
        "price_usd",
        "duration_ms",
        "failure",
    ]
    list_filter = ["provider", "failure", "created_at"]
    list_select_related = ["user"]
    search_fields = ["=key_id", "user__username", "user__email", "reference", "model_name"]
    date_hierarchy = "created_at"


@admin.register(ModelUsage)
class ModelUsageAdmin(ReadOnly, admin.ModelAdmin[ModelUsage]):
    list_display = [
        "day",
        "model",
        "user",
        "task_type",
        "calls",
        "failures",
        "own_key_calls",
        "input_tokens",
        "output_tokens",
        "credits",
        "average_ms",
    ]
    list_filter = ["day", "task_type", "model__provider", "model"]
    list_select_related = ["model", "user"]
    search_fields = ["user__username", "user__email", "model__name", "=repository_id"]
    date_hierarchy = "day"

    @admin.display(ordering="charged_microcredits")
    def credits(self, row: ModelUsage) -> float:
        return round(row.charged_microcredits / MICROCREDITS, 6)

    @admin.display(description="average ms")
    def average_ms(self, row: ModelUsage) -> int | None:
        return round(row.duration_ms / row.calls) if row.calls else None
