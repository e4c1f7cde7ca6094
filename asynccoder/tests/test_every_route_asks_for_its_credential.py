"""A session changes nothing without its CSRF token, and a scoped key opens only what it names."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts import keys
from accounts.models import AccessKey, User
from asynccoder.tests.test_every_url_is_guarded import OPEN, PATHS

API = [path for path in PATHS if re.match(r"/(api|auth)(/|$)", path) and not OPEN.fullmatch(path)]
LOGOUT = ["/api/auth/logout", "/api/v1/auth/logout"]
UNSAFE = ["post", "put", "patch", "delete"]


def ask(browser: Client, method: str, path: str, headers: dict[str, str]) -> Any:
    send = getattr(browser, method)
    return send(path, "{}", content_type="application/json", headers=headers)


def is_csrf_refusal(answer: Any) -> bool:
    return answer.status_code == 403 and b"CSRF" in answer.content


def test_there_are_routes_to_ask() -> None:
    assert len(API) > 20
    assert set(LOGOUT).isdisjoint(API)


@pytest.mark.parametrize("path", [*API, *LOGOUT])
def test_a_session_changes_nothing_without_the_csrf_token(path: str, staff: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(staff)
    for method in UNSAFE:
        for headers in ({}, {"x-csrftoken": "x" * 32}, {"origin": "https://evil.example"}):
            answer = ask(browser, method, path, headers)
            assert is_csrf_refusal(answer), (path, method, answer.status_code, answer.content)
    assert browser.get("/api/users/me").status_code == 200


@pytest.mark.parametrize("path", API)
def test_with_the_csrf_token_the_same_request_is_heard(path: str, staff: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    for method in UNSAFE:
        # Some of them end the session.
        browser.force_login(staff)
        browser.cookies["csrftoken"] = token = "t" * 32
        assert not is_csrf_refusal(ask(browser, method, path, {"x-csrftoken": token})), method


@pytest.mark.parametrize("path", [*API, *LOGOUT])
def test_a_key_opens_nothing_that_its_scopes_do_not_name(path: str, staff: User) -> None:
    key, text = keys.create(user=staff, name="narrow", scopes=["nothing:read"])
    api = APIClient()
    api.credentials(HTTP_X_API_KEY=text)
    for method in ("get", *UNSAFE):
        answer = getattr(api, method)(path, {})
        assert answer.status_code == 403, (path, method, answer.content)
    assert AccessKey.objects.filter(pk=key.pk, revoked_at__isnull=True).exists()


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/api/v1/users/me", "/api/v1/models"])
def test_a_key_without_scopes_opens_what_its_account_may(path: str, staff: User) -> None:
    api = APIClient()
    api.credentials(HTTP_X_API_KEY=keys.create(user=staff, name="wide")[1])
    assert api.get(path).status_code == 200
