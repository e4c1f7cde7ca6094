"""Security headers and policy on every kind of answer, and the errors of every route."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient
from rest_framework.views import APIView

from accounts.models import User
from asynccoder.tests.test_every_url_speaks_its_dialect import API, assert_dialect

pytestmark = pytest.mark.django_db
SECRET = "SELECT secret FROM /srv/path"
LIMITED = [path for path in API if "/health" not in path]


def crash(*_: object, **__: object) -> None:
    raise RuntimeError(SECRET)


KINDS: dict[str, tuple[str, str, int]] = {
    "page": ("get", "/", 200),
    "sign-up": ("get", "/sign-up/", 302),
    "redirect": ("get", "/admin/", 302),
    "no page": ("get", "/nothing/", 404),
    "static file": ("get", "/static/css/base.css", 200),
    "no static file": ("get", "/static/nothing", 404),
    "data": ("get", "/api/v1/users/me", 200),
    "envelope": ("get", "/api/users/me", 200),
    "no route": ("get", "/api/nothing", 404),
    "wrong method": ("patch", "/api/v1/tasks", 405),
    "wrong method of a file": ("post", "/openapi.json", 405),
    "preflight": ("options", "/api/v1/tasks", 200),
    "probe": ("get", "/api/health/live", 200),
    "metrics": ("get", "/metrics", 200),
    "document": ("get", "/openapi.yaml", 200),
    "docs": ("get", "/docs", 200),
    "NUL": ("get", "/api/v1/tasks?x=%00", 400),
}


@pytest.mark.parametrize("is_https", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_answer_is_guarded(
    kind: str, alice: User, settings: Any, is_https: bool
) -> None:
    settings.IS_HTTPS = is_https
    settings.SECURE_HSTS_SECONDS = 31_536_000 if is_https else 0
    method, path, status = KINDS[kind]
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    preflight = {"origin": "https://a.example", "access-control-request-method": "GET"}
    headers = preflight if method == "options" else {}
    answer = getattr(client, method)(path, secure=is_https, headers=headers)
    answer.close()
    assert answer.status_code == status
    assert_guarded(answer, is_https=is_https)
    if path.startswith("/api"):
        assert answer["Cache-Control"] == "no-store"


def assert_guarded(answer: Any, *, is_https: bool) -> None:
    policy = answer["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    for part in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert part in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in answer["Permissions-Policy"]
    assert answer["X-Request-ID"]
    assert ("Strict-Transport-Security" in answer) == is_https
    assert "Server" not in answer
    assert "X-Powered-By" not in answer


@pytest.mark.parametrize("path", ["/api/v1/users/me", "/sign-in/"])
def test_a_crash_is_guarded_too(path: str, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.template.loader.render_to_string", crash)
    monkeypatch.setattr("django.shortcuts.loader.render_to_string", crash)
    monkeypatch.setattr(APIView, "initial", crash)
    answer = Client(raise_request_exception=False).get(path)
    assert answer.status_code == 500
    assert_guarded(answer, is_https=False)
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("path", API)
def test_a_crash_of_any_route_has_the_dialect_and_no_secret(
    path: str, staff_api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(APIView, "initial", crash)
    staff_api.raise_request_exception = False
    answer = staff_api.get(path)
    assert answer.status_code == 500
    assert_dialect(path, answer)
    assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("path", API)
def test_below_any_route_there_is_nothing(path: str, staff_api: APIClient) -> None:
    answer = staff_api.get(f"{path}/no-such/thing")
    assert answer.status_code == 404
    assert_dialect(path, answer)


@pytest.mark.parametrize("path", LIMITED)
def test_a_limit_that_is_reached_has_the_dialect(
    path: str, staff_api: APIClient, settings: Any
) -> None:
    settings.RATELIMIT_ENABLE = True
    spent = {name: "0/1h" for name in settings.RATE_LIMITS if name != "plans"}
    settings.RATE_LIMITS = spent | {"plans": dict.fromkeys(settings.RATE_LIMITS["plans"], "0/1h")}
    answer = next(
        found
        for method in ("get", "post", "put", "delete")
        if (found := getattr(staff_api, method)(path, {}, format="json")).status_code != 405
    )
    assert answer.status_code == 429, answer.content
    assert_dialect(path, answer)
    assert int(answer["Retry-After"]) >= 1
    assert answer["X-RateLimit-Remaining"] == "0"


def test_a_body_that_is_too_large_has_the_dialect(
    api: APIClient, staff: User, settings: Any
) -> None:
    # No sign-in that a logout among the routes could end.
    api.force_authenticate(staff)
    settings.REQUEST_MAX_BYTES = 20
    refused = []
    for path in LIMITED:
        for method in ("post", "put", "patch"):
            answer = getattr(api, method)(path, {"name": "x" * 50}, format="json")
            if answer.status_code == 413:
                refused.append(path)
                assert_dialect(path, answer)
    assert len(set(refused)) > 10
