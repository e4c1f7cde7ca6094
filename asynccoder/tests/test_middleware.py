from __future__ import annotations

import contextvars
import io
import json
import logging
from typing import Any

import pytest
from django.test import Client

from asynccoder.lib import logs, redact

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/api/health/live", "/api/nothing", "/nothing/", "/sign-in/"])
def test_every_answer_carries_an_id_and_the_policy(path: str) -> None:
    response = Client(raise_request_exception=False).get(path)
    assert len(response["X-Request-ID"]) == 32
    policy = response["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "connect-src 'self' ws://testserver;" in policy
    assert "unsafe" not in policy
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "geolocation=()" in response["Permissions-Policy"]
    assert response["Referrer-Policy"] == "same-origin"


def test_a_decent_id_of_the_client_is_kept_and_a_bad_one_replaced(client: Client) -> None:
    path = "/api/health/live"
    assert client.get(path, headers={"x-request-id": "trace-1234"})["X-Request-ID"] == "trace-1234"
    for bad in ("short", "a" * 65, "with space ", "new\nline1", "<script>"):
        assert client.get(path, headers={"x-request-id": bad})["X-Request-ID"] != bad


def test_https_instances_name_the_secure_socket(client: Client, settings: Any) -> None:
    settings.IS_HTTPS = True
    policy = client.get("/api/health/live")["Content-Security-Policy"]
    assert "connect-src 'self' wss://testserver;" in policy


def test_answers_of_the_api_are_not_kept_by_caches(client: Client) -> None:
    assert client.get("/api/nothing")["Cache-Control"] == "no-store"


@pytest.fixture
def line() -> Any:
    """Return a function that logs one line with an exception and gives what was written."""

    def write(formatter: logging.Formatter, message: str) -> str:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger = logging.Logger("test")  # noqa: LOG001 # one of its own, apart from the tree
        logger.addHandler(handler)
        try:
            raise ValueError(f"inside {message}")
        except ValueError:
            logger.exception("said %s", message)
        return stream.getvalue()

    return write


@pytest.mark.parametrize("formatter", [logs.Text(), logs.Json()], ids=["text", "json"])
def test_log_lines_carry_the_ids_and_no_secret(formatter: logging.Formatter, line: Any) -> None:
    redact.register("canary-of-the-log")
    request, task = logs.request_id.set("r-1"), logs.task_id.set("t-1")
    try:
        written = line(formatter, "canary-of-the-log")
    finally:
        logs.request_id.reset(request)
        logs.task_id.reset(task)
    assert "canary" not in written
    assert "said ***" in written
    assert "ValueError: inside ***" in written
    assert "r-1" in written
    assert "t-1" in written


def test_json_lines_are_json(line: Any) -> None:
    found = json.loads(contextvars.Context().run(line, logs.Json(), 'a "quoted"\nline'))
    assert found["message"] == 'said a "quoted"\nline'
    assert found["level"] == "error"
    assert "request_id" not in found
