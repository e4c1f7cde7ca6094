"""The settings: what Django's own checks say, and what only shows when they are seen together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.db import connection
from django.db.models import Count
from django.db.utils import DatabaseError

from aimodels import access
from aimodels.models import AIModel, ProviderConfig, ProviderKind
from asynccoder.doctor.findings import Finding, failed, ok, warning
from tasks.heartbeat import ALIVE_SECONDS

SECRETS = ("SECRET_KEY", "JWT_SECRET", "FIELD_ENCRYPTION_KEYS")


def check_settings() -> Iterator[Finding]:
    found = [*_django(), *_secrets(), *_public_url(), *_times()]
    yield from found or [ok(f"{settings.ENVIRONMENT}, {settings.PUBLIC_URL}")]


def _django() -> Iterator[Finding]:
    """Run what ``manage.py check`` does, in production with ``--deploy``."""
    is_production = settings.ENVIRONMENT == "production"
    for message in checks.run_checks(include_deployment_checks=is_production):
        hint = f" {message.hint}" if message.hint else ""
        line = f"{message.id}: {' '.join(f'{message.msg}{hint}'.split())}"
        if message.level >= checks.ERROR:
            yield failed(line)
        elif message.level >= checks.WARNING:
            yield warning(line)


def _secrets() -> Iterator[Finding]:
    """Secrets that a machine makes for itself are its own: others could not read what it writes."""
    made_here = [name for name in SECRETS if not os.environ.get(name)]
    if made_here and os.environ.get("RUNS_STORAGE"):
        yield failed(
            f"RUNS_STORAGE is shared by several machines, but {', '.join(made_here)} were made by this"
            " one, in VAR_DIR/secrets: set the same ones in every machine's environment"
            " (docs/operate.md)."
        )
    elif made_here and connection.vendor != "sqlite":
        yield warning(
            f"{', '.join(made_here)} were made here and lie in VAR_DIR/secrets: other machines on"
            " this database need the same ones; give them, or share the folder."
        )


def _public_url() -> Iterator[Finding]:
    parts = urlsplit(settings.PUBLIC_URL)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
        yield failed("PUBLIC_URL must be such as https://coder.example.org, without a path:"
                     " links and sign-ins lead there.")  # fmt: skip


def _times() -> Iterator[Finding]:
    lease, renew = settings.LEASE_SECONDS, settings.LEASE_RENEW_SECONDS
    if renew + settings.CANCEL_POLL_SECONDS >= lease:
        yield failed(f"LEASE_RENEW_SECONDS ({renew:g}) and CANCEL_POLL_SECONDS leave no time within"
                     f" LEASE_SECONDS ({lease}): runs are taken from living workers.")  # fmt: skip
    elif renew * 2 > lease:
        yield warning(f"LEASE_RENEW_SECONDS ({renew:g}) is over half of LEASE_SECONDS ({lease}): one"
                      " missed renewal loses a run.")  # fmt: skip
    if renew >= ALIVE_SECONDS:
        yield failed(f"LEASE_RENEW_SECONDS ({renew:g}) is {ALIVE_SECONDS} or more: living workers"
                     " are taken for dead.")  # fmt: skip
    if lease * 2 < settings.SWEEP_SECONDS:
        yield warning(f"SWEEP_SECONDS ({settings.SWEEP_SECONDS:g}) is long: what a dead worker held"
                      " waits so long.")  # fmt: skip
    if settings.AGENT_WRAP_UP_SECONDS >= settings.AGENT_DEADLINE_SECONDS:
        yield warning("AGENT_WRAP_UP_SECONDS is not below AGENT_DEADLINE_SECONDS: runs are ended"
                      " before they are told to finish.")  # fmt: skip


def check_models() -> Iterator[Finding]:
    """Say which providers have a key and how many models that makes; never a key itself."""
    try:
        rows = AIModel.objects.filter(is_active=True).values_list("provider")
        active = dict(rows.annotate(count=Count("pk")).order_by())
        configured = ProviderConfig.objects.filter(is_active=True).exclude(sealed_key="")
        with_key = set(configured.values_list("provider", flat=True))
    except DatabaseError as error:
        yield failed(f"nobody can tell ({type(error).__name__}): see the line of the database.")
        return
    with_key |= {kind.value for kind, (key, _) in access.SETTINGS.items() if getattr(settings, key)}
    if not active:
        yield failed("no model is known: run manage.py loadmodels.")
    elif not with_key:
        names = ", ".join(key for key, _ in access.SETTINGS.values())
        yield warning(f"no provider has a key, so only the built-in engine works: set one of {names}"
                      " (users may add their own).")  # fmt: skip
    else:
        usable = {name: active.get(name, 0) for name in sorted({*with_key, ProviderKind.BUILTIN})}
        yield ok("; ".join(f"{name}: {count} models" for name, count in usable.items()))
