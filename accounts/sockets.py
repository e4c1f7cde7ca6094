"""Who is behind a WebSocket: a token in its query or first message, or the session's cookie."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie
from django.http.request import split_domain_port, validate_host

from accounts import keys, tokens
from accounts.models import User
from asynccoder.lib.errors import NotSignedIn


def user_of(scope: Mapping[str, Any], token: str = "", needs: str = "task:read") -> User | None:
    """Return the active account behind a socket, or None. Reads the database: not for the loop.

    An access key with scopes counts only with the one that the socket ``needs``. Asked again with
    the same arguments (every 30 s), it tells whether the account may still listen.
    A token (JWT or access key) decides alone; without one the session counts, but only where no
    foreign page opened the socket.
    """
    if token:
        return _user_of_token(token, needs)
    if not _is_own_origin(scope):
        return None
    return _user_of_session(scope)


def credential_of(scope: Mapping[str, Any]) -> str:
    """Return the token or access key in a request's headers, or "" where its session counts."""
    scheme, _, token = _header(scope, b"authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else _header(scope, b"x-api-key")


def _user_of_token(token: str, needs: str) -> User | None:
    try:
        if token.startswith("ac_"):
            key = keys.find(token)
            is_open = not key.scopes or needs in key.scopes
            return key.user if is_open else None
        return tokens.read(token)[0]
    except NotSignedIn:
        return None


def _user_of_session(scope: Mapping[str, Any]) -> User | None:
    session_key = parse_cookie(_header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME)
    if not session_key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active else None


def _is_own_origin(scope: Mapping[str, Any]) -> bool:
    """Tell whether the page that opens the socket is ours; programs send no Origin."""
    origin = _header(scope, b"origin")
    if not origin or origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    found = urlsplit(origin)
    return (
        found.scheme in ("http", "https")
        and found.netloc == _header(scope, b"host")
        and validate_host(split_domain_port(found.netloc)[0], settings.ALLOWED_HOSTS)
    )


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    for key, value in scope.get("headers", []):
        if key.lower() == name:
            return str(value.decode("latin1"))
    return ""
