"""The ledger for staff: to read, never to write; credits move by ``setcredits`` and the verbs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from asynccoder.lib.admin import ReadOnly
from billing import plans
from billing.ledger import as_credits
from billing.models import (
    CreditAccount,
    CreditHold,
    LedgerEntry,
    SubscriptionPlan,
    SubscriptionUsage,
)


class HoldInline(ReadOnly, admin.TabularInline[CreditHold, CreditAccount]):
    model = CreditHold
    fields = ["reference", "amount_microcredits", "remaining_microcredits", "is_open"]
    extra = 0
    max_num = 20
    verbose_name_plural = "open holds"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(is_open=True)


@admin.register(CreditAccount)
class CreditAccountAdmin(ReadOnly, admin.ModelAdmin[CreditAccount]):
    list_display = ["user", "free", "held", "spent", "updated_at"]
    list_select_related = ["user"]
    search_fields = ["user__email", "user__username"]
    inlines = [HoldInline]

    @admin.display(ordering="balance_microcredits")
    def free(self, account: CreditAccount) -> float:
        return as_credits(account.balance_microcredits)

    @admin.display(ordering="held_microcredits")
    def held(self, account: CreditAccount) -> float:
        return as_credits(account.held_microcredits)

    @admin.display(ordering="spent_microcredits")
    def spent(self, account: CreditAccount) -> float:
        return as_credits(account.spent_microcredits)


@admin.register(CreditHold)
class CreditHoldAdmin(ReadOnly, admin.ModelAdmin[CreditHold]):
    list_display = ["reference", "account", "amount", "remaining", "is_open", "created_at"]
    list_filter = ["is_open", "created_at"]
    list_select_related = ["account__user"]
    search_fields = ["reference", "account__user__email", "account__user__username"]

    @admin.display(ordering="amount_microcredits")
    def amount(self, hold: CreditHold) -> float:
        return as_credits(hold.amount_microcredits)

    @admin.display(ordering="remaining_microcredits")
    def remaining(self, hold: CreditHold) -> float:
        return as_credits(hold.remaining_microcredits)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnly, admin.ModelAdmin[LedgerEntry]):
    list_display = [
        "created_at",
        "user",
        "kind",
        "change",
        "held_by",
        "free_after",
        "reference",
        "description",
    ]
    list_filter = ["kind", "created_at"]
    list_select_related = ["account__user"]
    search_fields = [
        "reference",
        "description",
        "account__user__email",
        "account__user__username",
    ]
    date_hierarchy = "created_at"

    @admin.display(ordering="account__user__username")
    def user(self, entry: LedgerEntry) -> str:
        return str(entry.account.user)

    @admin.display(ordering="balance_change")
    def change(self, entry: LedgerEntry) -> float:
        return as_credits(entry.balance_change)

    @admin.display(ordering="held_change", description="held")
    def held_by(self, entry: LedgerEntry) -> float:
        return as_credits(entry.held_change)

    @admin.display(ordering="balance_after")
    def free_after(self, entry: LedgerEntry) -> float:
        return as_credits(entry.balance_after)


@admin.register(SubscriptionPlan)
class SubscriptionPlanAdmin(admin.ModelAdmin[SubscriptionPlan]):
    list_display = [
        "name",
        "slug",
        "price_usd",
        "monthly_credits",
        "concurrent_tasks",
        "requests_per_hour",
        "tasks_per_hour",
        "is_active",
    ]
    list_filter = ["is_active"]
    search_fields = ["name", "slug"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # Accounts name their plan by it.
        return ["slug"] if obj else []

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        plans.change(obj)


@admin.register(SubscriptionUsage)
class SubscriptionUsageAdmin(ReadOnly, admin.ModelAdmin[SubscriptionUsage]):
    list_display = ["period_start", "user", "plan", "holds", "charges", "used", "updated_at"]
    list_filter = ["period_start", "plan"]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    date_hierarchy = "period_start"

    @admin.display(description="credits used")
    def used(self, row: SubscriptionUsage) -> float:
        return as_credits(row.used_microcredits)
