"""Errors of ours to Sentry, where a DSN is set: what happened and where, never with which values."""

from __future__ import annotations

from typing import Any

import sentry_sdk
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.types import Event, Hint

from asynccoder.lib import redact

KEPT_OF_A_REQUEST = ("method", "url")


def start(dsn: str, *, environment: str, release: str) -> None:
    """Report unhandled and logged errors of this process and those that it forks."""
    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=release,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        traces_sample_rate=0,
        auto_enabling_integrations=False,
        integrations=[DjangoIntegration(middleware_spans=False, signals_spans=False)],
        before_send=without_secrets,
    )


def without_secrets(event: Event, hint: Hint) -> Event | None:
    """Leave of the request its method and path, and mask every secret in what is left."""
    request = event.get("request", {})
    event["request"] = {name: request[name] for name in KEPT_OF_A_REQUEST if name in request}
    masked: Event = _masked(event)
    return masked


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return redact.text(value)
    if isinstance(value, dict):
        return {name: _masked(below) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(below) for below in value]
    return value
