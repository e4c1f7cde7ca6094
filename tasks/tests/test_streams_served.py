"""Streams as daphne serves them: cuts, S3's own client code, and clients that do not read."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from websockets.sync.client import connect

from accounts import tokens
from accounts.models import User
from asynccoder.tests.processes import Process, StartProcess, answers, free_port, wait_for
from tasks import events
from tasks.events import Event
from tasks.models import Status, Task
from tasks.tests.make import make_task
from tasks.tests.test_sockets_served import EVENTS, write_events
from tasks.tests.world import bash, build_world, finish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

CUTS = 25
LINES, LINE = 80, "x" * 100_000
"""Far more than the buffers of a connection take."""
CUT = "its line is cut"


@pytest.fixture
def run_daphne(start_process: StartProcess) -> Callable[..., tuple[str, Process]]:
    def run(**environment: str) -> tuple[str, Process]:
        port = free_port()
        daphne = start_process(
            "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port),
            "asynccoder.asgi:application", PORT=str(port), LOG_LEVEL="INFO", **environment,
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{url}/health"), what="daphne answers")
        return url, daphne

    return run


@contextlib.contextmanager
def joined(url: str, token: str, after: int = 0) -> Iterator[Iterator[tuple[str, str]]]:
    """Follow a stream as S3's example does; give the lines as (field, value)."""
    headers = {"Authorization": f"Bearer {token}"} | (
        {"Last-Event-ID": str(after)} if after else {}
    )
    with requests.get(url, headers=headers, stream=True, timeout=60) as response:
        if response.status_code == 204:
            yield iter([])
            return
        assert response.status_code == 200, response.text
        yield pairs(response)


def pairs(response: requests.Response) -> Iterator[tuple[str, str]]:
    for line in response.iter_lines(65_536, decode_unicode=True):
        name, _, value = line.partition(": ")
        yield name, value


def follow(url: str, token: str, *, cuts: int) -> list[int]:
    """Read a task to its end over a line that is cut again and again."""
    seen: list[int] = []
    for _ in range(cuts + 100):
        most = random.randint(1, 40) if cuts > 0 else 10**9
        cuts -= 1
        with joined(url, token, seen[-1] if seen else 0) as lines:
            numbers = (int(value) for name, value in lines if name == "id")
            before = len(seen)
            seen.extend(number for number, _ in zip(numbers, range(most), strict=False))
            if len(seen) - before < most:
                return seen
    raise AssertionError("the stream never ended")


def test_cut_streams_miss_nothing_and_see_nothing_twice(
    alice: User, run_daphne: Callable[..., tuple[str, Process]]
) -> None:
    url, _ = run_daphne(RATELIMIT_ENABLE="false")
    task = make_task(owner=alice, status=Status.RUNNING)
    token, path = str(tokens.begin(alice).access), f"{url}/api/v1/tasks/{task.pk}/stream"
    done = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        writer = pool.submit(write_events, task, done)
        followers = [pool.submit(follow, path, token, cuts=cuts) for cuts in (CUTS, CUTS, 0)]
        seen = [one.result(120) for one in followers]
        writer.result(120)
    for numbers in seen:
        assert numbers == list(range(1, EVENTS + 2))


def make_long(owner: User) -> Task:
    task = make_task(owner=owner, status=Status.RUNNING)
    for _ in range(LINES):
        events.append(task.pk, Event("log.written", LINE))
    Task.objects.filter(pk=task.pk).update(status=Status.COMPLETED)
    events.append(task.pk, Event("task.completed"))
    return task


@contextlib.contextmanager
def silent_client(url: str, path: str, token: str, *headers: str) -> Iterator[None]:
    """Ask, and never read the answer."""
    address = urlsplit(url)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect((address.hostname, address.port))
        asked = [f"GET {path} HTTP/1.1", f"Host: localhost:{address.port}"]
        asked += [f"Authorization: Bearer {token}", *headers, "", ""]
        line.sendall("\r\n".join(asked).encode())
        yield


UPGRADE = (
    "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


@pytest.mark.parametrize("is_socket", [False, True])
def test_a_client_that_does_not_read_is_shed_and_others_are_not(
    alice: User, run_daphne: Callable[..., tuple[str, Process]], is_socket: bool
) -> None:
    url, daphne = run_daphne(STALL_SECONDS="4")
    task = make_long(alice)
    token = str(tokens.begin(alice).access)
    stream, sockets = f"/api/v1/tasks/{task.pk}/stream", f"/api/ws/task/{task.pk}?token={token}"
    assert read_whole(url, stream, sockets, token, is_socket=is_socket) == LINES + 1
    assert CUT not in daphne.output(), "who reads is not cut"
    path, headers = (sockets, UPGRADE) if is_socket else (stream, ())
    with silent_client(url, path, token, *headers):
        wait_for(lambda: CUT in daphne.output(), what="the line is cut")
        assert read_whole(url, stream, sockets, token, is_socket=is_socket) == LINES + 1
    assert daphne.output().count(CUT) == 1


def read_whole(url: str, stream: str, sockets: str, token: str, *, is_socket: bool) -> int:
    """Return how many events a client is given that reads to the end."""
    if not is_socket:
        with joined(f"{url}{stream}", token) as lines:
            return sum(name == "id" for name, _ in lines)
    count = 0
    with connect(f"{url.replace('http', 'ws', 1)}{sockets}") as line:
        for _ in line:
            count += 1
    return count - 1


@pytest.mark.timeout(400)
def test_the_published_client_follows_a_run_to_its_result(
    alice: User,
    run_daphne: Callable[..., tuple[str, Process]],
    worker_process: Callable[..., Process],
    tmp_path: Path,
) -> None:
    script = [bash("echo hello > app.txt"), *finish()]
    with build_world(alice, script, worker_process, tmp_path / "repository") as world:
        url, _ = run_daphne(**world.environment)
        world.worker()
        account = {"email": alice.email, "password": "correct horse battery"}
        signed_in = requests.post(f"{url}/api/v1/auth/login", account, timeout=30).json()
        response = requests.post(
            f"{url}/api/v1/execute/stream",
            headers={"Authorization": f"Bearer {signed_in['access_token']}"},
            json={"task_type": "implement", "prompt": "Say hello", "files": [], "context": {}},
            stream=True,
            timeout=60,
        )
        found = list(pairs(response))
    assert response.status_code == 200
    names = [value for name, value in found if name == "event"]
    numbers = [int(value) for name, value in found if name == "id"]
    assert {"progress", "token"} <= set(names)
    assert (names[-1], names.count("result")) == ("result", 1)
    assert numbers == list(range(1, len(numbers) + 1))
    data = [json.loads(value) for name, value in found if name == "data"]
    assert data[-1]["results"]["generated_files"] == ["app.txt"]
    assert [one["sequence"] for one in data] == numbers
