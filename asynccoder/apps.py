from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from django.apps import AppConfig
from django.conf import settings

SECRET_NAMES = re.compile(r"SECRET|_API_KEY$|PASSWORD|_TOKEN$|_DSN$")


class AsyncCoderConfig(AppConfig):
    name = "asynccoder"

    def ready(self) -> None:
        """Load the checks, and mask the instance's own secrets in everything it writes."""
        from asynccoder import checks  # noqa: F401 # registers itself
        from asynccoder.lib import redact, reporting

        for secret in _secrets():
            redact.keep(secret)
        if settings.SENTRY_DSN:
            reporting.start(
                settings.SENTRY_DSN, environment=settings.ENVIRONMENT, release=settings.VERSION
            )


def _secrets() -> Iterator[str]:
    for name in dir(settings):
        value = getattr(settings, name) if name.isupper() else None
        if isinstance(value, str) and SECRET_NAMES.search(name):
            yield value
    yield from (entry.partition(":")[2] for entry in settings.FIELD_ENCRYPTION_KEYS)
    yield str(settings.DATABASES["default"].get("PASSWORD") or "")
    yield unquote(urlsplit(settings.REDIS_URL).password or "")
