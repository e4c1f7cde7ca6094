"""Repositories in the admin; credentials are never shown, only whether there is one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from asynccoder.lib.admin import ReadOnly
from repositories import webhooks
from repositories.connect import disconnect_repository
from repositories.forms import AdminForm
from repositories.models import (
    PullRequest,
    Repository,
    RepositoryAccess,
    RepositoryWebhook,
    WebhookDelivery,
)


class AccessInline(admin.TabularInline[RepositoryAccess, Repository]):
    model = RepositoryAccess
    extra = 0
    autocomplete_fields = ["user"]


@admin.register(Repository)
class RepositoryAdmin(admin.ModelAdmin[Repository]):
    form = AdminForm
    list_display = [
        "full_name", "owner", "kind", "default_branch", "is_active", "has_credential",
        "has_github_access", "size_bytes", "synced_at", "sync_error",
    ]  # fmt: skip
    list_filter = ["kind", "is_active", "has_github_access", "is_private", "synced_at"]
    list_select_related = ["owner"]
    search_fields = ["full_name", "url", "owner__username", "owner__email"]
    date_hierarchy = "created_at"
    autocomplete_fields = ["owner"]
    readonly_fields = [
        "id", "kind", "url", "web_url", "has_credential", "github_id", "has_github_access",
        "hosted_bundle", "size_bytes", "synced_at", "sync_error", "created_at", "updated_at",
    ]  # fmt: skip
    exclude = ["sealed_credential"]
    inlines = [AccessInline]
    actions = ["disconnect"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Connecting reaches the repository first, so it is done on its page."""
        return False

    @admin.display(boolean=True, description="Credential")
    def has_credential(self, repository: Repository) -> bool:
        return bool(repository.sealed_credential)

    @admin.action(
        description="Disconnect the chosen repositories (deletes what is hosted here)",
        permissions=["change"],
    )
    def disconnect(self, request: HttpRequest, queryset: Any) -> None:
        for repository in queryset:
            disconnect_repository(repository)
        self.message_user(request, "Disconnected; their credentials are gone.")


@admin.register(RepositoryAccess)
class RepositoryAccessAdmin(admin.ModelAdmin[RepositoryAccess]):
    list_display = ["repository", "user", "level", "created_at"]
    list_filter = ["level"]
    list_select_related = ["repository", "user"]
    search_fields = ["repository__full_name", "user__username", "user__email"]
    autocomplete_fields = ["repository", "user"]


@admin.register(RepositoryWebhook)
class RepositoryWebhookAdmin(ReadOnly, admin.ModelAdmin[RepositoryWebhook]):
    list_display = ["repository", "hook_id", "events", "is_active", "last_delivery_at"]
    list_filter = ["is_active", "last_delivery_at"]
    list_select_related = ["repository"]
    search_fields = ["=hook_id", "repository__full_name"]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, admin.ModelAdmin[WebhookDelivery]):
    list_display = [
        "received_at", "event", "action", "full_name", "state", "attempts", "error", "delivery",
    ]  # fmt: skip
    list_filter = ["state", "event", "received_at"]
    search_fields = ["delivery", "full_name", "=github_id"]
    actions = ["try_again"]

    @admin.action(description="Work on the chosen failed deliveries again", permissions=["view"])
    def try_again(self, request: HttpRequest, queryset: Any) -> None:
        count = webhooks.try_again(queryset.values_list("pk", flat=True))
        self.message_user(request, f"{count} deliveries are worked on again.")


@admin.register(PullRequest)
class PullRequestAdmin(ReadOnly, admin.ModelAdmin[PullRequest]):
    list_display = ["repository", "number", "title", "state", "head_branch", "created_at"]
    list_filter = ["state", "created_at"]
    list_select_related = ["repository"]
    search_fields = ["=number", "title", "head_branch", "repository__full_name"]
