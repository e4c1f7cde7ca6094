"""Who asks, on routes that serve people without an account too."""

from __future__ import annotations

from typing import Any

from django.db import Error as DatabaseError
from django.http import HttpRequest
from rest_framework.exceptions import APIException
from rest_framework.views import APIView

from asynccoder.lib.errors import AppError


def account_of(request: HttpRequest) -> Any | None:
    """Return the account behind a request; a bad credential, or a key for some things only, is none."""
    asked = APIView().initialize_request(request)
    try:
        user = asked.user
    except (APIException, AppError, DatabaseError):
        return None
    return user if user.is_authenticated and not getattr(asked.auth, "scopes", None) else None


def is_staff(account: Any | None) -> bool:
    """Tell whether the account is an administrator's."""
    return bool(getattr(account, "is_admin", False))
