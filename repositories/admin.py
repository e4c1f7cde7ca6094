"""Repositories in the admin; credentials are never shown, only whether there is one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from repositories.connect import disconnect_repository
from repositories.forms import AdminForm
from repositories.models import Repository, RepositoryAccess


class AccessInline(admin.TabularInline):  # type: ignore[type-arg] # no generic at run time
    model = RepositoryAccess
    extra = 0
    autocomplete_fields = ["user"]


@admin.register(Repository)
class RepositoryAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # no generic at run time
    form = AdminForm
    list_display = [
        "full_name", "owner", "kind", "default_branch", "is_active", "has_credential",
        "size_bytes", "synced_at", "sync_error",
    ]  # fmt: skip
    list_filter = ["kind", "is_active", "is_private", "synced_at"]
    list_select_related = ["owner"]
    search_fields = ["full_name", "url", "owner__username", "owner__email"]
    date_hierarchy = "created_at"
    autocomplete_fields = ["owner"]
    readonly_fields = [
        "id", "kind", "url", "web_url", "has_credential", "github_id", "size_bytes", "synced_at",
        "sync_error", "created_at", "updated_at",
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

    @admin.action(description="Disconnect the chosen repositories", permissions=["change"])
    def disconnect(self, request: HttpRequest, queryset: Any) -> None:
        for repository in queryset:
            disconnect_repository(repository)
        self.message_user(request, "Disconnected; their credentials are gone.")


@admin.register(RepositoryAccess)
class RepositoryAccessAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # no generic at run time
    list_display = ["repository", "user", "level", "created_at"]
    list_filter = ["level"]
    list_select_related = ["repository", "user"]
    search_fields = ["repository__full_name", "user__username", "user__email"]
    autocomplete_fields = ["repository", "user"]
