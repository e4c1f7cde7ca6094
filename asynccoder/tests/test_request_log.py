"""One line a request and a socket, which says who, what and how long, and holds no token."""

from __future__ import annotations

import io
import json
import logging
import urllib.error
import urllib.request
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.testing import WebsocketCommunicator
from daphne.access import AccessLogGenerator
from django.test import Client
from rest_framework.test import APIClient

from accounts import tokens
from accounts.models import User
from asynccoder.asgi import AccessLog, application
from asynccoder.lib import logs
from asynccoder.tests.processes import StartProcess, answers, free_port, wait_for

pytestmark = pytest.mark.django_db

CANARY = "canary-in-a-query"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """Return a function that gives the lines of requests as programs read them."""
    caplog.set_level(logging.DEBUG, "asynccoder.requests")

    def read() -> list[dict[str, Any]]:
        records = [record for record in caplog.records if record.name == "asynccoder.requests"]
        return [json.loads(logs.Json().format(record)) for record in records]

    return read


def test_a_request_has_one_line_without_its_query(api: APIClient, lines: Any) -> None:
    response = api.get(f"/api/v1/tasks/?limit=1&token={CANARY}")
    (line,) = lines()
    assert line["milliseconds"] >= 0
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v1/tasks/", 401)
    assert (line["user_id"], line["address"]) == ("", "127.0.0.1")
    assert line["message"].startswith("GET /api/v1/tasks/ 401 ")
    assert CANARY not in json.dumps(line)
    assert response["X-Request-ID"]


def test_the_line_names_whom_the_request_was_served_as(
    alice: User, alice_api: APIClient, page: Client, lines: Any
) -> None:
    alice_api.get("/api/v1/tasks")
    page.force_login(alice)
    page.get("/")
    assert [line["user_id"] for line in lines()] == [str(alice.pk)] * 2


def test_nobody_is_looked_up_for_the_line(
    alice: User, page: Client, lines: Any, django_assert_num_queries: Any
) -> None:
    page.force_login(alice)
    with django_assert_num_queries(0):
        page.get("/no/such/page.txt/of/ours", headers={"host": "foreign.example"})
    assert lines()[0]["user_id"] == ""


def test_an_address_cannot_write_lines_of_its_own(client: Client, lines: Any) -> None:
    client.get("/nothing%0aGET /forged 200 %1b[2J\u2028")
    (line,) = lines()
    assert line["path"] == "/nothing%0AGET%20/forged%20200%20%1B%5B2J%E2%80%A8"
    client.get("/" + "x" * 5000)
    assert len(lines()[1]["path"]) == 500


def test_probes_and_static_files_have_lines_only_where_something_is_wrong(
    client: Client, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asynccoder.requests")
    client.get("/api/health/live")
    settings.REDIS_URL = "unix:///nowhere.sock"
    client.get("/health")
    levels = [record.levelno for record in caplog.records if record.name == "asynccoder.requests"]
    assert levels == [logging.DEBUG, logging.INFO]


@pytest.mark.urls("asynccoder.tests.dialect_urls")
def test_every_line_of_a_request_bears_its_id(caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(logs.Text().format(record))

    listener = Listener()
    logging.getLogger().addHandler(listener)
    try:
        client = Client(raise_request_exception=False, headers={"x-request-id": "trace-4711"})
        assert client.get("/api/v1/things/crash").status_code == 500
        assert client.get("/api/v1/things/raise/bug").status_code == 500
    finally:
        logging.getLogger().removeHandler(listener)
    assert len(written) == 5
    assert [line for line in written if not line.endswith("request_id=trace-4711")] == []
    assert sum("Traceback" in line for line in written) == 2


@pytest.mark.django_db(transaction=True)
def test_a_socket_has_one_line_with_its_end_and_its_owner(alice: User, lines: Any) -> None:
    token = tokens.begin(alice).access

    async def use(path: str, **headers: str) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        socket = WebsocketCommunicator(application, path, headers=pairs)
        await socket.connect(timeout=60)
        if token not in path:
            assert (await socket.receive_output(5))["type"] == "websocket.close"
        else:
            await socket.disconnect(timeout=60)

    async_to_sync(use)(f"/ws/?token={CANARY}")
    async_to_sync(use)("/nowhere")
    async_to_sync(use)(f"/ws?token={token}", **{"x-request-id": "trace-4712"})
    found = [(line["path"], line["status"], line["user_id"]) for line in lines()]
    assert found == [("/ws/", 4401, ""), ("/nowhere", 4404, ""), ("/ws", 1000, str(alice.pk))]
    assert lines()[0]["method"] == "SOCKET"
    assert token not in json.dumps(lines())
    assert CANARY not in json.dumps(lines())


@pytest.mark.django_db(transaction=True)
def test_the_servers_own_access_log_keeps_no_query(start_process: StartProcess) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    daphne = start_process(
        "-m", "daphne", "-v", "2", "--access-log", "-", "-b", "127.0.0.1", "-p", str(port),
        "asynccoder.asgi:application", PORT=str(port),
    )  # fmt: skip
    wait_for(lambda: answers(f"{url}/health") or daphne.popen.poll() is not None)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{url}/ws?token={CANARY}", timeout=60)
    wait_for(lambda: '"GET /ws" 404' in daphne.output(), what="the access log is written")
    assert CANARY not in daphne.output()


def test_daphnes_own_access_log_would_keep_the_query() -> None:
    """The control of the test above."""
    details = {"client": "", "method": "GET", "path": f"/ws?token={CANARY}", "status": 404}
    kept, cut = io.StringIO(), io.StringIO()
    AccessLogGenerator(kept)("http", "complete", details | {"size": 1})
    AccessLog(cut)("http", "complete", details | {"size": 1})
    assert CANARY in kept.getvalue()
    assert '"GET /ws" 404' in cut.getvalue()
    assert CANARY not in cut.getvalue()
