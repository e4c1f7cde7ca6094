"""The page of a user's credits."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.models import User
from billing import ledger
from billing.models import LedgerEntry, SubscriptionPlan

ENTRIES_PER_PAGE = 50


@login_required
def show_ledger(request: HttpRequest) -> HttpResponse:
    """Show the balance, the plan, and every entry of the user's own ledger."""
    user = cast("User", request.user)
    entries = LedgerEntry.objects.visible_to(user).filter(account__user=user)
    page = Paginator(entries.order_by("-sequence"), ENTRIES_PER_PAGE)
    return render(
        request,
        "billing/ledger.html",
        {
            "balance": ledger.balance(user.pk),
            "plan": SubscriptionPlan.objects.filter(slug=user.plan).first(),
            "page": page.get_page(request.GET.get("page")),
        },
    )
