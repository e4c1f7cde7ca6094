"""System checks: what an instance must have before it serves anybody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # Django's name
from django.http.request import validate_host
from django.utils.module_loading import import_string

from asynccoder.api import limits
from asynccoder.lib import fields

SECRET_SHORTEST = 32
"""Characters of a signing secret: HMAC-SHA-256 wants a key as long as its digest."""
LOCAL = {"localhost", "127.0.0.1", "[::1]"}


@register(Tags.security)
def check_instance(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """Refuse settings under which tokens, sealed fields, limits or upcalls would not work."""
    return [*_secrets(), *_hosts(), *_limits(), *_upcalls()]


@register(Tags.security)
def check_production(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """Refuse what is convenient on one's own machine and dangerous in public."""
    if settings.ENVIRONMENT != "production":
        return []
    return list(_production())


def _secrets() -> Iterator[CheckMessage]:
    for name in ("SECRET_KEY", "JWT_SECRET"):
        if len(getattr(settings, name)) < SECRET_SHORTEST:
            message = f"{name} has fewer than {SECRET_SHORTEST} characters."
            yield Error(message, hint="Leave it unset to have one made.", id="asynccoder.E001")
    try:
        fields.check_keys()
    except ValueError as error:
        yield Error(str(error), id="asynccoder.E002")


def _hosts() -> Iterator[CheckMessage]:
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    shown = f"[{host}]" if ":" in host else host
    if not validate_host(shown, settings.ALLOWED_HOSTS):
        message = f"PUBLIC_URL leads to {shown!r}, which ALLOWED_HOSTS does not name."
        yield Error(message, id="asynccoder.E003")


def _limits() -> Iterator[CheckMessage]:
    given = {name: rate for name, rate in settings.RATE_LIMITS["plans"].items() if rate}
    rates = {**settings.RATE_LIMITS, **given}
    rates.pop("plans")
    for name, rate in rates.items():
        if not limits.is_rate(rate):
            message = f"The rate limit {name!r} is {rate!r}, not such as '5/15m'."
            yield Error(message, id="asynccoder.E004")


def _upcalls() -> Iterator[CheckMessage]:
    for name, path in settings.UPCALLS.items():
        try:
            import_string(path)
        except ImportError as error:
            yield Error(f"UPCALLS[{name!r}]: {error}", id="asynccoder.E005")


def _production() -> Iterator[CheckMessage]:
    if settings.DEBUG:
        yield Error("DEBUG shows secrets and source to everyone.", id="asynccoder.E010")
    if "*" in settings.ALLOWED_HOSTS:
        yield Error("ALLOWED_HOSTS must name hosts, not '*'.", id="asynccoder.E011")
    if set(settings.ALLOWED_HOSTS) <= LOCAL:
        # No error: so it is before the first settings are made, as in a first "compose up".
        message = "ALLOWED_HOSTS names this machine only."
        hint = "Set ALLOWED_HOSTS and PUBLIC_URL to where people reach the instance."
        yield Warning(message, hint=hint, id="asynccoder.W012")
    if not settings.RATELIMIT_ENABLE:
        yield Error("Rate limits are off.", id="asynccoder.E013")
    if not settings.IS_HTTPS:
        message = "PUBLIC_URL is not https: cookies and tokens travel in the clear."
        yield Warning(message, id="asynccoder.W014")
