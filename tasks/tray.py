"""What the top bar of every page shows; read from the database only where it is shown."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from billing.models import CreditAccount
from tasks.models import Task


def balance_of(request: HttpRequest) -> int:
    """Return the user's free microcredits; an account that was never opened has none."""
    found = CreditAccount.objects.filter(user_id=request.user.pk)
    return found.values_list("balance_microcredits", flat=True).first() or 0


def open_tasks_of(request: HttpRequest) -> int:
    return int(Task.objects.filter(owner_id=request.user.pk).open().count())


def top_bar(request: HttpRequest) -> dict[str, Any]:
    """Offer ``tray_open`` and ``tray_balance`` to templates (a context processor)."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {
        "tray_open": SimpleLazyObject(lambda: open_tasks_of(request)),
        "tray_balance": SimpleLazyObject(lambda: balance_of(request)),
    }
