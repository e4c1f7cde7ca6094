"""What the top bar of every page shows; read from the database only where it is shown."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpRequest

from accounts.models import User
from billing.models import CreditAccount
from tasks.models import Task


def balance_of(user: User) -> int:
    """Return the user's free microcredits; an account that was never opened has none."""
    found = CreditAccount.objects.filter(user_id=user.pk)
    return found.values_list("balance_microcredits", flat=True).first() or 0


def open_tasks_of(user: User) -> int:
    return int(Task.objects.filter(owner_id=user.pk).open().count())


def top_bar(request: HttpRequest) -> dict[str, Any]:
    """Offer ``tray_open`` and ``tray_balance`` to templates (a context processor)."""
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return {}
    # A template calls what can be called; a lazy object would be no number to its filters.
    return {
        "tray_open": cache(lambda: open_tasks_of(user)),
        "tray_balance": cache(lambda: balance_of(user)),
    }
