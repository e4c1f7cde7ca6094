"""Accounts in the Django admin. Keys and tokens can be ended here, never seen or made."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet, URLField
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone

from accounts import tokens
from accounts.models import (
    AccessKey,
    ExternalIdentity,
    FeedEvent,
    GithubAccount,
    GithubState,
    RefreshToken,
    TokenFamily,
    User,
)
from asynccoder.lib import upcalls
from asynccoder.lib.admin import ReadOnly

KEY_FIELDS = (
    "user",
    "name",
    "prefix",
    "scopes",
    "created_at",
    "expires_at",
    "last_used_at",
    "revoked_at",
)


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    list_display = ["username", "email", "role", "plan", "is_active", "is_staff", "created_at"]
    list_filter = ["role", "plan", "is_active", "is_staff", "created_at"]
    search_fields = ["=id", "username", "email", "display_name"]
    ordering = ["-created_at"]
    date_hierarchy = "created_at"
    readonly_fields = [
        "id",
        "token_version",
        "event_sequence",
        "running_tasks",
        "last_login",
        "created_at",
        "updated_at",
    ]
    fieldsets = [
        (None, {"fields": ["id", "username", "email", "password"]}),
        ("Profile", {"fields": ["display_name", "avatar_url", "theme"]}),
        ("Rights", {"fields": ["role", "is_active", "is_staff", "is_superuser", "groups"]}),
        ("Plan", {"fields": ["plan", "concurrent_tasks", "running_tasks"]}),
        (
            "State",
            {
                "fields": [
                    "token_version",
                    "event_sequence",
                    "last_login",
                    "created_at",
                    "updated_at",
                ]
            },
        ),
    ]
    add_fieldsets = [
        (
            None,
            {"fields": ["username", "email", "role", "usable_password", "password1", "password2"]},
        )
    ]
    actions = ["end_tokens"]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}

    def save_model(
        self, request: HttpRequest, obj: User, form: ModelForm[User], change: Any
    ) -> None:
        changed = form.changed_data if change else []
        limits = upcalls.call("plan_limits", obj.plan) if "plan" in changed else None
        if limits is not None and "concurrent_tasks" not in changed:
            obj.concurrent_tasks = limits.concurrent_tasks
        super().save_model(request, obj, form, change)
        if not change:
            upcalls.call("account_created", obj)

    @admin.action(description="End every token of the chosen accounts")
    def end_tokens(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            tokens.revoke_all(user)
        self.message_user(request, f"The tokens of {len(queryset)} accounts are ended.")


@admin.register(FeedEvent)
class FeedEventAdmin(ReadOnly, admin.ModelAdmin[FeedEvent]):
    list_display = ["created_at", "user", "sequence", "event"]
    list_filter = ["event", "created_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]


@admin.register(TokenFamily)
class TokenFamilyAdmin(ReadOnly, admin.ModelAdmin[TokenFamily]):
    list_display = ["user", "created_at", "address", "user_agent", "expires_at", "revoked_at"]
    list_filter = ["revoked_at", "created_at"]
    list_select_related = ["user"]
    search_fields = ["=id", "user__username", "user__email", "address"]
    exclude = ["session_key"]
    actions = ["revoke"]

    @admin.action(description="End the chosen sign-ins", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[TokenFamily]) -> None:
        for family in queryset:
            tokens.revoke(family)


@admin.register(ExternalIdentity)
class ExternalIdentityAdmin(ReadOnly, admin.ModelAdmin[ExternalIdentity]):
    list_display = ["user", "issuer", "subject", "created_at", "last_used_at"]
    list_filter = ["issuer", "created_at"]
    list_select_related = ["user"]
    search_fields = ["subject", "user__username", "user__email"]


@admin.register(RefreshToken)
class RefreshTokenAdmin(ReadOnly, admin.ModelAdmin[RefreshToken]):
    list_display = ["family", "created_at", "used_at"]
    list_filter = ["created_at"]
    list_select_related = ["family"]
    search_fields = ["=family__id", "family__user__username"]
    # The id of an unused refresh token is no secret alone, but nobody needs to see it.
    fields = ["family", "created_at", "used_at"]


@admin.register(AccessKey)
class AccessKeyAdmin(admin.ModelAdmin[AccessKey]):
    list_display = [
        "name",
        "user",
        "prefix",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    ]
    list_filter = ["revoked_at", "created_at"]
    list_select_related = ["user"]
    search_fields = ["name", "prefix", "user__username", "user__email"]
    fields = readonly_fields = KEY_FIELDS
    actions = ["revoke"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.action(description="Revoke the chosen keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[AccessKey]) -> None:
        now = timezone.now()
        for key in queryset:
            key.revoke(at=now)


@admin.register(GithubAccount)
class GithubAccountAdmin(ReadOnly, admin.ModelAdmin[GithubAccount]):
    list_display = ["login", "user", "github_id", "scopes", "connected_at", "refused_at"]
    list_filter = ["connected_at", "refused_at"]
    list_select_related = ["user"]
    search_fields = ["login", "=github_id", "user__username", "user__email"]
    exclude = ["sealed_token"]
    actions = ["disconnect"]

    @admin.action(description="Disconnect the chosen GitHub accounts", permissions=["view"])
    def disconnect(self, request: HttpRequest, queryset: QuerySet[GithubAccount]) -> None:
        count, _ = queryset.delete()
        self.message_user(request, f"{count} GitHub accounts are disconnected.")


@admin.register(GithubState)
class GithubStateAdmin(ReadOnly, admin.ModelAdmin[GithubState]):
    list_display = ["user", "expires_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    exclude = ["digest"]
