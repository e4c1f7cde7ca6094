"""Who is asking: a bearer token, an access key, or the dashboard's session."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from accounts import keys, tokens
from accounts.errors import TokenRefused
from accounts.models import AccessKey, TokenFamily, User


class BearerToken(BaseAuthentication):
    """``Authorization: Bearer``; ``request.auth`` is the token's family."""

    def authenticate(self, request: Request) -> tuple[User, TokenFamily] | None:
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None
        if scheme.lower() != "bearer":
            raise TokenRefused("Authorization must be a bearer token.")
        return tokens.read(encoded.strip())

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class AccessKeyHeader(BaseAuthentication):
    """``X-API-Key``; ``request.auth`` is the key."""

    def authenticate(self, request: Request) -> tuple[User, AccessKey] | None:
        text = request.headers.get("X-API-Key")
        if text is None:
            return None
        key = keys.find(text)
        return key.user, key


class SessionCookie(SessionAuthentication):
    """The dashboard's session; unsafe methods need the CSRF token."""


class EmailOrUsername(ModelBackend):
    """Signs in by e-mail address or user name; an unknown name costs the time of a wrong password."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **_: Any,
    ) -> User | None:
        if not username or password is None:
            return None
        user = User.objects.named(username)
        if user is None:
            User().set_password(password)
            return None
        is_right = user.check_password(password)
        return user if is_right and self.user_can_authenticate(user) else None
