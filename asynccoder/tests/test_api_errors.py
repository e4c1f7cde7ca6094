from __future__ import annotations

import logging
from typing import Any

import pytest
from django.test import Client

from asynccoder.tests.dialect_urls import SECRET

pytestmark = [pytest.mark.urls("asynccoder.tests.dialect_urls"), pytest.mark.django_db]

PLAIN_KEYS = {"error", "message", "detail", "code", "details", "status_code", "timestamp"}
EXPECTED = {
    "app": (400, "VALIDATION_ERROR"),
    "unsigned": (401, "UNAUTHORIZED"),
    "unallowed": (403, "FORBIDDEN"),
    "missing": (404, "RESOURCE_NOT_FOUND"),
    "conflict": (409, "CONFLICT"),
    "credit": (402, "INSUFFICIENT_CREDITS"),
    "large": (413, "PAYLOAD_TOO_LARGE"),
    "limit": (429, "RATE_LIMIT_EXCEEDED"),
    "run": (400, "CLONE_FAILED"),
    "busy": (503, "SERVICE_UNAVAILABLE"),
    "invalid": (400, "VALIDATION_ERROR"),
    "invalid_list": (400, "VALIDATION_ERROR"),
    "parse": (400, "VALIDATION_ERROR"),
    "model": (400, "VALIDATION_ERROR"),
    "anonymous": (401, "UNAUTHORIZED"),
    "failed": (401, "UNAUTHORIZED"),
    "denied": (403, "FORBIDDEN"),
    "django_denied": (403, "FORBIDDEN"),
    "ratelimited": (429, "RATE_LIMIT_EXCEEDED"),
    "throttled": (429, "RATE_LIMIT_EXCEEDED"),
    "absent": (404, "RESOURCE_NOT_FOUND"),
    "django_absent": (404, "RESOURCE_NOT_FOUND"),
    "suspicious": (400, "VALIDATION_ERROR"),
    "too_big": (413, "PAYLOAD_TOO_LARGE"),
    "constraint": (409, "CONFLICT"),
    "data": (400, "VALIDATION_ERROR"),
    "database": (503, "SERVICE_UNAVAILABLE"),
    "bug": (500, "INTERNAL_ERROR"),
}


@pytest.fixture(params=[False, True], ids=["", "debug"])
def browser(request: pytest.FixtureRequest, settings: Any) -> Client:
    settings.DEBUG = request.param
    return Client(raise_request_exception=False)


def assert_plain(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"], body["status_code"]) == (status, code, status)
    assert body.keys() - {"retry_after"} == PLAIN_KEYS
    assert ("retry_after" in body) == (status == 429)
    assert body["error"] == code.lower()
    assert body["message"] == body["detail"] != ""
    assert isinstance(body["details"], dict)
    return body


def assert_envelope(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["error"]["code"]) == (status, code)
    assert body.keys() == {"success", "error"}
    assert body["success"] is False
    assert body["error"].keys() == {"code", "message", "details"}
    assert body["error"]["message"]
    return body


@pytest.mark.parametrize("name", EXPECTED)
def test_every_error_has_the_body_of_its_dialect(browser: Client, name: str) -> None:
    assert_plain(browser.get(f"/api/v1/things/raise/{name}"), *EXPECTED[name])
    response = browser.get(f"/api/things/raise/{name}")
    assert_envelope(response, *EXPECTED[name])
    assert SECRET not in response.content.decode()


def test_every_kind_that_can_be_raised_is_expected() -> None:
    from asynccoder.tests.dialect_urls import RAISED

    assert RAISED.keys() == EXPECTED.keys()


def test_details_are_recased_in_the_envelope_only(browser: Client) -> None:
    envelope = browser.get("/api/things/raise/invalid").json()["error"]
    assert envelope["details"] == {"displayName": ["Too long."], "n": {"m": ["No."]}}
    plain = browser.get("/api/v1/things/raise/invalid").json()
    assert plain["details"] == {"display_name": ["Too long."], "n": {"m": ["No."]}}
    assert plain["message"] == "display_name: Too long."
    assert browser.get("/api/v1/things/raise/app").json()["details"] == {"why_not": "because"}


def test_build_routes_refuse_a_value_with_422_and_a_broken_body_with_400(browser: Client) -> None:
    assert_plain(browser.get("/api/build/things/raise/invalid"), 422, "VALIDATION_ERROR")
    assert_plain(browser.get("/api/build/things/raise/parse"), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("name", "seconds"), [("limit", 8), ("throttled", 10), ("ratelimited", None), ("busy", 3)]
)
def test_waiting_times_are_whole_seconds_in_header_and_body(
    browser: Client, name: str, seconds: int | None
) -> None:
    response = browser.get(f"/api/v1/things/raise/{name}")
    if seconds is not None:
        assert response["Retry-After"] == str(seconds)
    if response.status_code == 429:
        assert response.json()["retry_after"] == (seconds or 1)


@pytest.mark.parametrize("name", ["unsigned", "anonymous", "failed"])
def test_401_says_how_to_sign_in(browser: Client, name: str) -> None:
    assert browser.get(f"/api/v1/things/raise/{name}")["WWW-Authenticate"].startswith("Bearer")


def test_a_wrong_method_and_a_wrong_content_type_have_their_codes(browser: Client) -> None:
    for prefix, check in (("/api/v1", assert_plain), ("/api", assert_envelope)):
        response = browser.put(f"{prefix}/things/echo")
        check(response, 405, "METHOD_NOT_ALLOWED")
        assert "GET" in response["Allow"]
        response = browser.post(f"{prefix}/things/echo", "<a/>", content_type="text/xml")
        check(response, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "head"])
@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/nothing/at/all/"])
def test_an_unknown_path_is_404_in_the_envelope(browser: Client, path: str, method: str) -> None:
    response = getattr(browser, method)(path)
    if method == "head":
        assert response.status_code == 404
    else:
        assert_envelope(response, 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["/api/v1", "/api/v1/nothing", "/api/chat/x", "/auth/nothing", "/api/health/x"]
)
def test_an_unknown_path_is_404_in_the_plain_dialect(browser: Client, path: str) -> None:
    assert_plain(browser.post(path), 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("crash", 500, "INTERNAL_ERROR"),
        ("deny", 403, "FORBIDDEN"),
        ("suspect", 400, "VALIDATION_ERROR"),
    ],
)
def test_what_django_itself_answers_has_the_dialect_too(
    settings: Any, name: str, status: int, code: str
) -> None:
    browser = Client(raise_request_exception=False)
    assert_plain(browser.get(f"/api/v1/things/{name}"), status, code)
    response = browser.get(f"/api/things/{name}")
    assert_envelope(response, status, code)
    assert SECRET not in response.content.decode()


def test_a_foreign_host_is_400_in_the_dialect(settings: Any) -> None:
    browser = Client(raise_request_exception=False, headers={"host": "evil.example"})
    assert_envelope(browser.get("/api/things/echo"), 400, "VALIDATION_ERROR")


def test_a_page_that_does_not_exist_is_not_json(browser: Client) -> None:
    response = browser.get("/nothing/")
    assert response.status_code == 404
    assert "html" in response["Content-Type"]


def test_a_bug_is_logged_with_its_traceback(
    browser: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        browser.get("/api/v1/things/raise/bug")
    record = next(record for record in caplog.records if record.name == "asynccoder.api.errors")
    assert record.exc_info
    assert SECRET in str(record.exc_info[1])
