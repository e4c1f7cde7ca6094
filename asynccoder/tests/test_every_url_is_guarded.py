"""Nobody gets past a page without signing in, but for those that are named here.

The API's operations are asked by everybody in ``test_isolation``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

OPEN = re.compile(
    r"/(health|ready|metrics|favicon\.ico|openapi\.(json|yaml)|docs)"
    r"|/api/health(/(ready|live|status))?|/api/v1/health/detailed"
    r"|(/api|/api/v1)?/auth/(register|login|refresh|logout)"
    r"|/api/webhooks/github"  # The signature is the credential.
    r"|/sign-(in|up|out)/"
    r"|/admin/(login|logout|jsi18n)/"
)
API_OR_OPEN = re.compile(rf"{OPEN.pattern}|/(api|auth)/.*")
SAMPLES = {"uuid": str(uuid.UUID(int=7)), "int": "7", "str": "x", "slug": "x", "path": "x"}
REFUSED = {401, 403, 405}


def routes(
    patterns: list[URLPattern | URLResolver], prefix: str = "/", name: str = ""
) -> Iterator[str]:
    """Yield a path for every route, its parameters filled with samples."""
    for pattern in patterns:
        route = getattr(pattern.pattern, "_route", None)
        if route is None:
            # A regular expression: the catch-all that says 404, and the admin's own.
            continue
        path = prefix + re.sub(r"<(?:(\w+):)?\w+>", lambda m: SAMPLES[m.group(1) or "str"], route)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, path)
        else:
            yield path


PATHS = sorted(set(routes(get_resolver().url_patterns)))


def test_there_are_routes_of_every_kind() -> None:
    assert len(PATHS) > 50
    for prefix in ("/admin/", "/api/v1/", "/api/", "/tasks/"):
        assert any(path.startswith(prefix) for path in PATHS)


@pytest.mark.parametrize("path", [path for path in PATHS if not API_OR_OPEN.fullmatch(path)])
@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_a_stranger_without_an_account_is_refused(
    client: Client, db: None, settings: object, path: str, method: str
) -> None:
    settings.RATELIMIT_ENABLE = False  # type: ignore[attr-defined]  # pytest-django's wrapper
    answer = getattr(client, method)(path, content_type="application/json", data={})
    if answer.status_code in (301, 302):
        assert re.match(r"/sign-in/|/admin/login/", answer.headers["Location"]), path
    else:
        assert answer.status_code in REFUSED, (path, answer.status_code)


@pytest.mark.parametrize("path", ["/api/v1/no-such", "/api/no-such", "/no-such/"])
def test_what_does_not_exist_is_not_found(client: Client, db: None, path: str) -> None:
    assert client.get(path).status_code == 404
