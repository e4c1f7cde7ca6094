"""Who may use a route at all; whose objects it shows is decided by ``visible_to``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:
    # DRF imports this module while it makes the class.
    from rest_framework.views import APIView


class CanWork(BasePermission):
    """Viewers read; creating, changing and cancelling needs the role of a user."""

    message = "Your role may only read."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method in SAFE_METHODS or bool(getattr(request.user, "can_work", False))


class InScope(BasePermission):
    """An access key with scopes opens only the routes that need one of them.

    The view says by ``resource`` (such as ``task``) what it serves; reading needs ``task:read``,
    ``DELETE`` and the action ``cancel`` need ``task:cancel``, the rest ``task:create``. A view
    without a resource refuses every key that has scopes.
    """

    message = "The access key has no scope for this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return has_scope(request, f"{getattr(view, 'resource', '')}:{_verb(request, view)}")


class NotByAccessKey(BasePermission):
    """What outlives a key, or replaces it, is not opened by one: a key that leaked must not stay."""

    message = "This needs a token or a session, not an access key."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return not hasattr(request.auth, "scopes")


def has_scope(request: Request, scope: str) -> bool:
    """Tell whether the credential has a scope; only an access key with scopes can lack one."""
    scopes = getattr(request.auth, "scopes", None)
    return not scopes or scope in scopes


def _verb(request: Request, view: APIView) -> str:
    if request.method in SAFE_METHODS:
        return "read"
    if request.method == "DELETE" or getattr(view, "action", "") == "cancel":
        return "cancel"
    return "create"
