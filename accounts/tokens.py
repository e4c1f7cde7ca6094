"""JSON web tokens: short access tokens, and chains of refresh tokens that are used once each.

A sign-in begins a family. Every refresh uses up one token and hands out its successor; the database
decides who used it (a conditional UPDATE). A used token that comes again means that it was copied,
unless it comes within ten seconds and its successor was not used yet: two tabs that raced.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import Token

from accounts.errors import TokenRefused
from accounts.models import RefreshToken, TokenFamily, User

RACE = timedelta(seconds=10)


class Access(Token):
    token_type = "access"  # noqa: S105 # the name of a kind
    lifetime = timedelta(seconds=settings.JWT_ACCESS_SECONDS)


class Refresh(Token):
    token_type = "refresh"  # noqa: S105 # the name of a kind
    lifetime = timedelta(seconds=settings.JWT_REFRESH_SECONDS)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a client is given; ``expires_in`` is the access token's life in seconds."""

    access: str
    refresh: str
    expires_in: int

    def __repr__(self) -> str:
        return "Pair(***)"


def begin(
    user: User, *, address: str | None = None, user_agent: str = "", session_key: str = ""
) -> Pair:
    """Begin a family for a user who has just proven who they are."""
    with transaction.atomic():
        family = TokenFamily.objects.create(
            user=user,
            address=address,
            user_agent=user_agent[:300],
            session_key=session_key,
            expires_at=_refresh_expiry(),
        )
        return _pair(family, RefreshToken.objects.create(family=family))


def rotate(encoded: str) -> tuple[User, Pair]:
    """Use up a refresh token and return its account with the successor, or raise TokenRefused.

    1. Check signature, kind and life.
    2. Mark the row as used, only if nobody did; the database lets one caller through.
    3. Whoever comes second may have stolen it: see ``_judge_reuse``.
    4. The winner's family and account must still be good; then it gets the successor.
    """
    claims = _claims(encoded, Refresh)
    with transaction.atomic():
        won = RefreshToken.objects.filter(pk=claims["jti"], used_at__isnull=True).update(
            used_at=timezone.now()
        )
        if won:
            return _succeed(claims)
    _judge_reuse(claims)
    raise TokenRefused


def read(encoded: str) -> tuple[User, TokenFamily]:
    """Return the account and the family of an access token, or raise TokenRefused."""
    claims = _claims(encoded, Access)
    family = _family(claims)
    return family.user, family


def revoke(family: TokenFamily) -> None:
    """End a sign-in: its refresh tokens, its access tokens and the session that began with it."""
    TokenFamily.objects.filter(pk=family.pk, revoked_at__isnull=True).update(
        revoked_at=timezone.now()
    )
    if family.session_key:
        Session.objects.filter(pk=family.session_key).delete()


def revoke_all(user: User) -> None:
    """End every token of the account at once."""
    User.objects.filter(pk=user.pk).update(token_version=F("token_version") + 1)
    for family in TokenFamily.objects.filter(user=user, revoked_at__isnull=True):
        revoke(family)


def forget_expired(*, before: datetime | None = None) -> int:
    """Delete families that nobody can use any more; return how many rows went."""
    return TokenFamily.objects.filter(expires_at__lt=before or timezone.now()).delete()[0]


def _succeed(claims: dict[str, Any]) -> tuple[User, Pair]:
    family = _family(claims)
    family.expires_at = _refresh_expiry()
    family.save(update_fields=["expires_at"])
    successor = RefreshToken.objects.create(family=family, parent_id=claims["jti"])
    return family.user, _pair(family, successor)


def _judge_reuse(claims: dict[str, Any]) -> None:
    """Revoke the family of a used token, unless two tabs raced for it a moment ago."""
    token = RefreshToken.objects.filter(pk=claims["jti"]).select_related("family").first()
    if token is None or token.used_at is None:
        return
    is_late = timezone.now() - token.used_at > RACE
    if is_late or token.successors.filter(used_at__isnull=False).exists():
        revoke(token.family)


def _family(claims: dict[str, Any]) -> TokenFamily:
    """Return the family that the claims name, if it and its account are still good."""
    family = TokenFamily.objects.filter(pk=claims["fam"]).select_related("user").first()
    if family is None or family.revoked_at is not None or family.expires_at <= timezone.now():
        raise TokenRefused
    user = family.user
    if not user.is_active or str(user.pk) != claims["user_id"]:
        raise TokenRefused
    if not constant_time_compare(user.token_mark(), claims["mark"]):
        raise TokenRefused
    return family


def _pair(family: TokenFamily, token: RefreshToken) -> Pair:
    user = family.user
    access, refresh = Access(), Refresh()
    for issued in (access, refresh):
        issued["sub"] = user.username
        issued["user_id"] = str(user.pk)
        issued["fam"] = str(family.pk)
        issued["mark"] = user.token_mark()
    access["role"] = user.role
    access["permissions"] = user.permissions
    refresh["jti"] = str(token.pk)
    return Pair(str(access), str(refresh), settings.JWT_ACCESS_SECONDS)


def _claims(encoded: str, kind: type[Token]) -> dict[str, Any]:
    """Return the claims of a token of ours that is whole and alive, or raise TokenRefused."""
    try:
        claims: dict[str, Any] = kind(encoded).payload  # type: ignore[arg-type] # the stubs want a Token
        return {
            **claims,
            "jti": uuid.UUID(claims["jti"]),
            "fam": uuid.UUID(claims["fam"]),
            "user_id": str(claims["user_id"]),
            "mark": str(claims["mark"]),
        }
    except (TokenError, KeyError, ValueError, TypeError, AttributeError, OverflowError):
        raise TokenRefused from None


def _refresh_expiry() -> datetime:
    return timezone.now() + timedelta(seconds=settings.JWT_REFRESH_SECONDS)
