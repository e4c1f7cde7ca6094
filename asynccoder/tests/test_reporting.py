"""What a loopback Sentry is told of a crash: where it was, and none of the values in it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from asynccoder.lib import reporting
from asynccoder.tests.processes import StartProcess

CANARIES = {
    "header": "canary-in-the-header",
    "body": "canary-in-the-body",
    "query": "canary-in-the-query",
    "cookie": "canary-in-a-cookie",
    "variable": "canary-in-a-variable",
    "message": "canary-in-the-message",
    "log": "canary-in-the-log",
}
CRASH = """
import logging, sys, django
django.setup()
import sentry_sdk
from sentry_sdk.integrations.django import DjangoIntegration
from django.test import Client
from django.views.decorators.csrf import csrf_exempt
from asynccoder.lib import redact
from asynccoder.tests.test_reporting import CANARIES
from django.conf import settings

if sys.argv[1] == "unguarded":
    sentry_sdk.init(settings.SENTRY_DSN, send_default_pii=True, max_request_body_size="always")
redact.register(CANARIES["message"])
redact.register(CANARIES["log"])

@csrf_exempt
def crash(request):
    inside = "-".join(["canary", "in", "a", "variable"])
    logging.getLogger("asynccoder").error("it said %s", CANARIES["log"])
    raise RuntimeError("the crash: " + CANARIES["message"])

from django.urls import path
from asynccoder import urls
urls.urlpatterns.insert(0, path("crash", crash))
client = Client(SERVER_NAME="localhost", raise_request_exception=False)
client.cookies["other"] = CANARIES["cookie"]
answer = client.post("/crash?token=" + CANARIES["query"], {"name": CANARIES["body"]},
    content_type="application/json", headers={"x-own": CANARIES["header"]})
assert answer.status_code in (403, 500), answer.status_code
sentry_sdk.flush(10)
"""


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[str]]]:
    """A server that keeps what it is told; its DSN and that."""
    told: list[str] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_packed = self.headers.get("Content-Encoding") == "gzip"
            told.append((gzip.decompress(body) if is_packed else body).decode())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Keep)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://public@127.0.0.1:{server.server_port}/1", told
    server.shutdown()
    server.server_close()
    thread.join(60)


def crashed(start_process: StartProcess, dsn: str, how: str) -> None:
    process = start_process(
        "-c", CRASH, how, SENTRY_DSN=dsn, DJANGO_SETTINGS_MODULE="asynccoder.settings",
    )  # fmt: skip
    assert process.popen.wait(60) == 0, process.output()


@pytest.mark.django_db(transaction=True)
def test_a_crash_is_reported_without_any_value(
    start_process: StartProcess, sentry: tuple[str, list[str]]
) -> None:
    dsn, told = sentry
    crashed(start_process, dsn, "guarded")
    text = "\n".join(told)
    assert "the crash: ***" in text
    assert "it said ***" in text
    assert '"transaction":"/crash"' in text
    assert {name for name, canary in CANARIES.items() if canary in text} == set()


@pytest.mark.django_db(transaction=True)
def test_without_our_guards_the_values_are_told(
    start_process: StartProcess, sentry: tuple[str, list[str]]
) -> None:
    """The control of the test above."""
    dsn, told = sentry
    crashed(start_process, dsn, "unguarded")
    text = "\n".join(told)
    told_of = {name for name, canary in CANARIES.items() if canary in text}
    assert {"body", "variable", "message", "log"} <= told_of


@pytest.mark.django_db(transaction=True)
def test_without_the_setting_nothing_is_told(
    start_process: StartProcess, sentry: tuple[str, list[str]]
) -> None:
    crashed(start_process, "", "guarded")
    assert sentry[1] == []


def test_of_a_request_only_its_method_and_path_are_left() -> None:
    told = {"method": "POST", "url": "http://localhost/crash"}
    request: Any = told | {
        "query_string": f"token={CANARIES['query']}",
        "headers": {"X-Own": CANARIES["header"]},
        "cookies": {"other": CANARIES["cookie"]},
        "data": {"name": CANARIES["body"]},
        "env": {"REMOTE_ADDR": "192.0.2.7"},
    }
    assert reporting.without_secrets({"request": request}, {}) == {"request": told}
