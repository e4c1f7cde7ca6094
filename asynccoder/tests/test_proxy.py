"""A whole instance behind its proxy: TLS, addresses, limits, sockets, streams, slow clients."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from accounts import tokens
from accounts.models import User
from asynccoder.tests.processes import Process, StartProcess, free_port, wait_for
from asynccoder.tests.proxied import NO_CADDY, Proxied, caddy, served
from tasks import events
from tasks.events import Event
from tasks.models import Status, Task
from tasks.tests.make import make_task

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.services,
    pytest.mark.skipif(NO_CADDY, reason="no Caddy for this system"),
]

LOGIN = "/api/v1/auth/login"
THREADS = 2
BEHIND = {
    "BEHIND_TLS_PROXY": "true", "NUM_PROXIES": "1", "LOG_LEVEL": "INFO",
    "WEB_THREADS": str(THREADS), "RATE_AUTHENTICATION_ADDRESS": "100000/15m",
}  # fmt: skip


@pytest.fixture
def proxied(start_process: StartProcess, tmp_path: Path) -> Iterator[Proxied]:
    web_port, live_port = free_port(), free_port()
    with caddy(tmp_path / "proxy", web=web_port, live=live_port) as (url, authority, proxy):
        web = served(start_process, "web", web_port, PUBLIC_URL=url, **BEHIND)
        live = served(start_process, "live", live_port, PUBLIC_URL=url, **BEHIND)
        web_url = f"http://127.0.0.1:{web_port}"
        yield Proxied(url, authority, web_url, web, live, proxy)


class From(HTTPAdapter):
    """Speaks from another address of this machine."""

    def init_poolmanager(self, *arguments: Any, **given: Any) -> None:
        super().init_poolmanager(*arguments, source_address=("127.0.0.5", 0), **given)


def test_the_client_is_known_and_its_forgeries_change_nothing(proxied: Proxied) -> None:
    codes = []
    with requests.Session() as session:
        session.mount("https://", From())
        account = {"username": f"nobody-{uuid.uuid4()}", "password": "wrong"}
        for number in range(7):
            forged = {
                "X-Forwarded-For": f"10.0.0.{number}, 10.9.9.9",
                "X-Real-IP": f"10.1.0.{number}", "Forwarded": f"for=10.2.0.{number}",
            }  # fmt: skip
            answer = session.post(
                f"{proxied.url}{LOGIN}", json=account, headers=forged,
                verify=proxied.authority, timeout=30,
            )  # fmt: skip
            codes.append(answer.status_code)
    assert codes == [401] * 5 + [429] * 2
    lines = [line for line in proxied.web.output().splitlines() if LOGIN in line]
    assert len(lines) == 7
    assert all("127.0.0.5" in line and " 10." not in line for line in lines)


def test_pages_are_served_by_tls_and_what_is_refused_is_refused_in_words(
    proxied: Proxied, alice: User
) -> None:
    page = proxied.get("/sign-in/")
    assert page.status_code == 200
    assert "max-age" in page.headers["Strict-Transport-Security"]
    cookie = next(iter(page.cookies))
    assert cookie.secure
    # Who reaches the server past the proxy is sent to it.
    past = requests.get(f"{proxied.web_url}/sign-in/", timeout=30, allow_redirects=False)
    assert past.headers["Location"].startswith("https://")
    assert proxied.get("/metrics").status_code == 401, "what comes through a proxy is not local"
    headers = {"Authorization": f"Bearer {tokens.begin(alice).access}"}
    large = {"name": "x" * 11 * 1024**2}
    answer = proxied.post("/api/v1/access-keys", json=large, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


# --- Sockets and streams ------------------------------------------------------------------------


def test_a_socket_goes_through(proxied: Proxied, alice: User) -> None:
    task = make_task(owner=alice, status=Status.RUNNING)
    address = f"{proxied.url.replace('https', 'wss')}/api/ws/task/{task.pk}"
    trust = ssl.create_default_context(cafile=proxied.authority)
    with connect(f"{address}?token={tokens.begin(alice).access}", ssl=trust) as line:
        assert json.loads(line.recv(30))["type"] == "connected"
        events.append(task.pk, Event("log.written", "hello"))
        assert "hello" in line.recv(30)
        end(task)
        assert json.loads(line.recv(30))["type"] == "completion"
    wait_for(
        lambda: "SOCKET" in proxied.live.output(), what="the socket is in the live server's log"
    )


def test_a_stream_is_not_held_back(proxied: Proxied, alice: User) -> None:
    task = make_task(owner=alice, status=Status.RUNNING)
    headers = {"Authorization": f"Bearer {tokens.begin(alice).access}"}
    with proxied.get(f"/api/v1/tasks/{task.pk}/stream", headers=headers, stream=True) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines(chunk_size=None, decode_unicode=True)
        assert next(lines).startswith("retry:")
        events.append(task.pk, Event("log.written", "hello"))
        # The task goes on, and so does the answer: what comes now was not waited for.
        assert next(line for line in lines if line.startswith("data:")).count("hello") == 1
        end(task)
        assert [line for line in lines if line.startswith("event:")][-1].endswith(
            ("result", "error")
        )


def end(task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(status=Status.COMPLETED)
    events.append(task.pk, Event("task.completed"))


def test_what_the_proxy_logs_holds_no_token(proxied: Proxied) -> None:
    proxied.live.end()
    trust = ssl.create_default_context(cafile=proxied.authority)
    address = f"{proxied.url.replace('https', 'wss')}/ws?token=a-secret-in-the-address"
    keys = {"X-API-Key": "a-secret-in-a-header"}
    with pytest.raises(InvalidStatus) as refused:
        connect(address, ssl=trust, additional_headers=keys)
    assert refused.value.response.status_code == 502
    wait_for(lambda: "connection refused" in proxied.proxy.output(), what="the proxy's log")
    assert "a-secret" not in proxied.proxy.output()


# --- Threads ------------------------------------------------------------------------------------


@contextlib.contextmanager
def half_a_request(port: int, body: str, authority: str = "") -> Iterator[socket.socket]:
    """Send a request without the second half of its body."""
    with contextlib.ExitStack() as open_lines:
        line = open_lines.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        if authority:
            trust = ssl.create_default_context(cafile=authority)
            line = open_lines.enter_context(trust.wrap_socket(line, server_hostname="localhost"))
        head = f"POST {LOGIN} HTTP/1.1\r\nHost: localhost:{port}\r\nX-Forwarded-Proto: https\r\n"
        head += "Content-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n{body[: len(body) // 2]}"
        line.sendall(head.encode())
        yield line


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_slow_clients_hold_no_thread(proxied: Proxied) -> None:
    large = json.dumps({"username": "x" * 200_000})
    with contextlib.ExitStack() as slow:
        for _ in range(5 * THREADS):
            slow.enter_context(half_a_request(port_of(proxied.url), large, proxied.authority))
        assert proxied.get("/api/health/live").status_code == 200


def test_a_request_that_is_being_served_is_answered_before_the_server_ends(
    start_process: StartProcess,
) -> None:
    port = free_port()
    web = served(start_process, "web", port, NUM_PROXIES="1")
    body = json.dumps({"username": "nobody", "password": "wrong"})
    with half_a_request(port, body) as line:
        wait_until_served(web, port)
        web.send(signal.SIGTERM)
        wait_for(lambda: "Handling signal: term" in web.output(), what="it is told to end")
        line.sendall(body[len(body) // 2 :].encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 40")
    assert web.popen.wait(30) == 0, web.output()


def wait_until_served(web: Process, port: int) -> None:
    """Return once a thread has taken the request that is not whole: another is answered after it."""
    assert requests.get(f"http://127.0.0.1:{port}/api/health/live", timeout=30).ok
    assert web.popen.poll() is None


def test_several_processes_count_together(start_process: StartProcess) -> None:
    port = free_port()
    token = {"METRICS_TOKEN": "a-token-of-metrics"}
    web = served(start_process, "web", port, WEB_PROCESSES="2", **token)
    for _ in range(10):
        requests.get(f"http://127.0.0.1:{port}/api/health/live", timeout=30)
    headers = {"Authorization": "Bearer a-token-of-metrics"}
    text = requests.get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=30).text
    line = next(
        line for line in text.splitlines() if "/api/health/live" in line and "_total" in line
    )
    assert float(line.split()[-1]) >= 10, web.output()
