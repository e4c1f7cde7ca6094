"""The sockets as daphne serves them: cuts, a dead server, and what the access log keeps."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from accounts import tokens
from accounts.models import User
from asynccoder.tests.processes import Process, StartProcess, answers, free_port, wait_for
from tasks import events
from tasks.events import Event
from tasks.models import Status, Task
from tasks.tests.make import make_task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

CUTS = 50
EVENTS = 400


@pytest.fixture
def run_daphne(start_process: StartProcess) -> Callable[[int], Process]:
    """Return a function that serves the platform at a port, with an access log."""

    def run(port: int) -> Process:
        daphne = start_process(
            "-m", "daphne", "--access-log", "-", "-b", "127.0.0.1", "-p", str(port),
            "asynccoder.asgi:application", PORT=str(port),
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}/health"
        wait_for(lambda: answers(url) or daphne.popen.poll() is not None, what="daphne answers")
        assert daphne.popen.poll() is None, daphne.output()
        return daphne

    return run


def write_events(task: Task, done: threading.Event) -> None:
    """Append EVENTS events and end the task, as a worker in another process does."""
    try:
        for number in range(EVENTS):
            events.append(task.pk, Event("log.written", f"line {number}"))
            done.wait(random.random() * 0.02)
        Task.objects.filter(pk=task.pk).update(status=Status.COMPLETED)
        events.append(task.pk, Event("task.completed"))
    finally:
        connection.close()


def numbers_until_cut(socket: Connection, most: int) -> Iterator[int]:
    """Give the numbers of at most so many messages; the cut comes in the middle of the rest."""
    for _ in range(most):
        message = json.loads(socket.recv(timeout=60))
        if message["type"] != "connected":
            yield message["sequence"]


def follow(url: str, *, cuts: int) -> list[int]:
    """Read a task to its end over a line that is cut again and again without a word."""
    seen: list[int] = []
    for _ in range(CUTS + 100):
        try:
            with connect(f"{url}&after={seen[-1] if seen else 0}") as socket:
                most = random.randint(1, 15) if cuts else 10**9
                seen.extend(numbers_until_cut(socket, most))
                cuts -= 1
                socket.socket.close()
        except ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code == 1000:
                return seen
    return seen


def test_fifty_cuts_lose_nothing_and_double_nothing(
    alice: User, run_daphne: Callable[[int], Process]
) -> None:
    port, task = free_port(), make_task(owner=alice, status=Status.RUNNING)
    daphne = run_daphne(port)
    token = tokens.begin(alice).access
    url = f"ws://127.0.0.1:{port}/api/ws/task/{task.pk}?token={token}"
    done = threading.Event()
    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(follow, url, cuts=cuts) for cuts in (CUTS, 0)]
        writer = pool.submit(write_events, task, done)
        writer.result(120)
        for reader in readers:
            assert reader.result(120) == list(range(1, EVENTS + 2))
    log = daphne.output()
    assert f"/api/ws/task/{task.pk}" in log
    assert token not in log
    assert "Traceback" not in log


def test_restarted_server_goes_on_where_the_client_was(
    alice: User, run_daphne: Callable[[int], Process]
) -> None:
    port, task = free_port(), make_task(owner=alice, status=Status.RUNNING)
    url = f"ws://127.0.0.1:{port}/api/ws/task/{task.pk}?token={tokens.begin(alice).access}"
    first = run_daphne(port)
    with connect(url) as socket:
        events.append(task.pk, Event("log.written", "before"))
        assert [json.loads(socket.recv(timeout=60))["type"] for _ in range(2)] == [
            "connected", "progress",
        ]  # fmt: skip
        first.kill()
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)
    events.append(task.pk, Event("log.written", "while nobody listened"))
    run_daphne(port)
    with connect(f"{url}&after=1") as socket:
        hello, missed = (json.loads(socket.recv(timeout=60)) for _ in range(2))
        assert (hello["sequence"], hello["newest"], missed["sequence"]) == (1, 2, 2)
        assert missed["data"]["message"] == "while nobody listened"
