"""Which pages' scripts may read the API: those that are named, and never with a cookie."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client

pytestmark = pytest.mark.django_db
FRIEND, STRANGER = "https://app.example.org", "https://evil.example"
ALLOW = "Access-Control-Allow-Origin"


def preflight(client: Client, origin: str, path: str = "/api/v1/tasks") -> Any:
    return client.options(
        path,
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,idempotency-key",
        },
    )


def test_nobody_is_allowed_by_default(client: Client) -> None:
    for answer in (preflight(client, FRIEND), client.get("/health", headers={"origin": FRIEND})):
        assert ALLOW not in answer


def test_a_named_page_may_ask_with_a_token_and_read_the_limits(
    client: Client, settings: Any
) -> None:
    settings.CORS_ALLOWED_ORIGINS = [FRIEND]
    answer = preflight(client, FRIEND)
    assert (answer.status_code, answer[ALLOW]) == (200, FRIEND)
    assert {"authorization", "idempotency-key", "x-api-key"} <= set(
        answer["Access-Control-Allow-Headers"].split(", ")
    )
    answer = client.get("/api/v1/tasks", headers={"origin": FRIEND})
    assert (answer.status_code, answer[ALLOW]) == (401, FRIEND)
    assert "x-ratelimit-reset" in answer["Access-Control-Expose-Headers"]
    assert "origin" in answer["Vary"].lower()


@pytest.mark.parametrize("origin", [STRANGER, "null", f"{FRIEND}.evil.example", f"{FRIEND}:444"])
def test_a_page_that_is_not_named_may_not(client: Client, settings: Any, origin: str) -> None:
    settings.CORS_ALLOWED_ORIGINS = [FRIEND]
    assert ALLOW not in preflight(client, origin)
    assert ALLOW not in client.get("/api/v1/tasks", headers={"origin": origin})


def test_no_cookie_goes_along(client: Client, settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = [FRIEND]
    for answer in (preflight(client, FRIEND), client.get("/health", headers={"origin": FRIEND})):
        assert "Access-Control-Allow-Credentials" not in answer


@pytest.mark.parametrize("path", ["/", "/sign-in/", "/admin/login/", "/docs", "/metrics"])
def test_pages_are_read_by_nobody(client: Client, settings: Any, path: str) -> None:
    settings.CORS_ALLOWED_ORIGINS = [FRIEND]
    assert ALLOW not in client.get(path, headers={"origin": FRIEND})


def test_a_star_is_refused(client: Client, settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["*"]
    assert "corsheaders.E013" in {message.id for message in run_checks()}
    assert ALLOW not in preflight(client, STRANGER)
