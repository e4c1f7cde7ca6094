"""Server-Sent Events of a task: who may follow, what is sent, in which order, and for how long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.db import connections
from django.http import SimpleCookie

from accounts import tokens
from accounts.models import User
from asynccoder.asgi import application
from repositories.models import RepositoryAccess
from tasks import events, following, live, messages, streams
from tasks.events import Event
from tasks.models import Status, Task
from tasks.tests.make import make_log, make_model, make_repository, make_task
from tasks.tests.story import completed_task, end, running_task
from tasks.tests.test_sockets import cookie_of, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]
BODY = {"task_type": "implement", "prompt": "Build it"}


def token_of(user: User) -> str:
    return str(tokens.begin(user).access)


@pytest.fixture(autouse=True)
async def _no_connection_is_left(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    # Every request has a thread of its own here, with which a connection that is kept would end.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    yield
    await sync_to_async(connections.close_all)()
    assert not streams.places._open, "every place is given back"


@dataclass
class Heard:
    """What a client of a stream has received."""

    line: Any
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    rest: str = ""

    async def event(self) -> dict[str, str]:
        """Return the next event's fields; a comment's text is under ""."""
        while "\n\n" not in self.rest:
            message = await self.line.receive_output(5)
            self.rest += message["body"].decode()
            if not message.get("more_body"):
                raise EOFError(self.rest)
        block, _, self.rest = self.rest.partition("\n\n")
        return {
            name: value.removeprefix(" ")
            for name, _, value in (one.partition(":") for one in block.split("\n"))
        }

    async def events(self, count: int) -> list[dict[str, str]]:
        return [await self.event() for _ in range(count)]

    async def is_over(self) -> bool:
        try:
            await self.event()
        except EOFError:
            return self.rest == ""
        return False

    async def body(self) -> Any:
        return json.loads((await self.line.receive_output(5))["body"])


@asynccontextmanager
async def requested(
    method: str, path: str, user: User | None = None, body: Any = None, **headers: str
) -> AsyncIterator[Heard]:
    path, _, query = path.partition("?")
    if user is not None:
        headers["authorization"] = f"Bearer {await sync_to_async(token_of)(user)}"
    sent = b"" if body is None else json.dumps(body).encode()
    headers |= {"host": "localhost", "content_type": "application/json"}
    headers["content_length"] = str(len(sent))
    named = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "scheme": "http", "client": ["127.0.0.1", 1], "server": ["localhost", 80],
        "headers": named,
    }  # fmt: skip
    line: Any = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call] # asgiref has no types here
    await line.send_input({"type": "http.request", "body": sent, "more_body": False})
    start = await line.receive_output(60)
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    heard = Heard(line, start["status"], found)
    try:
        yield heard
    finally:
        await line.send_input({"type": "http.disconnect"})
        await line.wait(60)


def path_of(task: Task) -> str:
    return f"/api/v1/tasks/{task.pk}/stream"


async def append(task: Task, kind: str = "log.written", **values: Any) -> int:
    return await sync_to_async(events.append)(task.pk, Event(kind, **values))


# --- Who may follow ------------------------------------------------------------------------------


async def test_only_those_who_may_look_follow(alice: User, mallory: User, victor: User) -> None:
    repository = await sync_to_async(make_repository)(owner=alice)
    task = await sync_to_async(make_task)(owner=alice, repository=repository)
    for user, status in ((None, 401), (mallory, 404), (victor, 404)):
        async with requested("GET", path_of(task), user) as heard:
            assert heard.status == status
            assert (await heard.body())["status_code"] == status
    await RepositoryAccess.objects.acreate(repository=repository, user=victor)
    for user in (victor, alice):
        async with requested("GET", path_of(task), user) as heard:
            assert heard.status == 200


async def test_a_session_follows_its_own(alice: User) -> None:
    task = await sync_to_async(make_task)(owner=alice)
    cookie = SimpleCookie((await sync_to_async(cookie_of)(alice)).decode())
    (morsel,) = cookie.values()
    header = f"{morsel.key}={morsel.value}"
    async with requested("GET", path_of(task), cookie=header) as heard:
        assert heard.status == 200


async def test_too_many_streams_are_429(alice: User, settings: Any) -> None:
    settings.STREAMS_PER_USER = 1
    task = await sync_to_async(make_task)(owner=alice)
    async with requested("GET", path_of(task), alice) as one:
        assert one.status == 200
        async with requested("GET", path_of(task), alice) as two:
            assert (two.status, two.headers["retry-after"]) == (429, "5")
            assert (await two.body())["code"] == "RATE_LIMIT_EXCEEDED"
    async with requested("GET", path_of(task), alice) as again:
        assert again.status == 200


async def test_the_stream_of_a_disabled_account_ends(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RECHECK_SECONDS", 0.05)
    task = await sync_to_async(make_task)(owner=alice)
    async with requested("GET", path_of(task), alice) as heard:
        assert "retry" in await heard.event()
        await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
        while (message := await heard.event()) != {"": "no longer allowed"}:
            assert message == {"": ""}, "a sign of life"
        assert await heard.is_over()


# --- What is sent --------------------------------------------------------------------------------


async def test_a_run_is_told_and_ends_with_its_result(alice: User) -> None:
    task = await sync_to_async(running_task)(alice)
    async with requested("GET", path_of(task), alice) as heard:
        assert heard.headers["content-type"] == "text/event-stream"
        assert heard.headers["cache-control"] == "no-store"
        assert heard.headers["x-accel-buffering"] == "no"
        assert "content-length" not in heard.headers
        assert "x-request-id" in heard.headers
        assert await heard.event() == {"retry": "2000"}
        told = [one for one in await heard.events(task.event_sequence + 1) if "id" in one]
        assert [int(one["id"]) for one in told] == list(range(1, len(told) + 1))
        names = {json.loads(one["data"])["data"]["kind"]: one["event"] for one in told}
        assert names["task.started"] == "progress"
        assert names["check.finished"] == "log"
        assert names["model.text"] == "token"
        await sync_to_async(end)(task, Status.COMPLETED, progress=100)
        await append(task, "task.completed")
        last = await heard.event()
        while "id" not in last:
            last = await heard.event()
        assert (last["event"], int(last["id"])) == ("result", task.event_sequence + 1)
        assert json.loads(last["data"])["status"] == "completed"
        assert await heard.is_over()


async def test_a_failure_is_an_error_event(alice: User) -> None:
    task = await sync_to_async(make_task)(owner=alice)
    await sync_to_async(end)(task, Status.FAILED, error_message="No network", error_code="x")
    await append(task, "task.failed")
    async with requested("GET", path_of(task), alice) as heard:
        told = [one for one in await heard.events(3) if "id" in one]
        assert told[-1]["event"] == "error"
        assert json.loads(told[-1]["data"])["error"] == "No network"
        assert await heard.is_over()


async def test_data_is_one_line_whatever_a_task_says(alice: User) -> None:
    task = await sync_to_async(make_task)(owner=alice, status=Status.RUNNING)
    hostile = "one\n\ndata: two\r\nevent: result\u2028id: 9"
    await append(task, message=hostile)
    async with requested("GET", path_of(task), alice) as heard:
        told = [one for one in await heard.events(3) if "id" in one]
        assert (told[0]["event"], told[0]["id"]) == ("log", "1")
        assert json.loads(told[0]["data"])["data"]["message"] == hostile


@pytest.mark.parametrize("by_header", [True, False])
async def test_rejoining_neither_repeats_nor_skips(alice: User, by_header: bool) -> None:
    task = await sync_to_async(completed_task)(alice)
    path, headers = path_of(task), {"last_event_id": "3"}
    if not by_header:
        path, headers = f"{path}?after=3", {}
    async with requested("GET", path, alice, **headers) as heard:
        numbers: list[int] = []
        while not numbers or numbers[-1] < task.event_sequence:
            one = await heard.event()
            numbers += [int(one["id"])] if "id" in one else []
        assert numbers == list(range(4, task.event_sequence + 1))
        assert await heard.is_over()


async def test_stream_socket_and_log_show_the_same_sequence(alice: User) -> None:
    task = await sync_to_async(completed_task)(alice)
    async with requested("GET", f"/api/v1/tasks/{task.pk}/log?limit=1000", alice) as heard:
        logged = [event["sequence"] for event in (await heard.body())["events"]]
    texts = [one.text for one in await live_events(task)]
    async with requested("GET", path_of(task), alice) as heard:
        told: list[dict[str, str]] = []
        while len(told) < len(logged):
            one = await heard.event()
            told += [one] if "id" in one else []
    assert [int(one["id"]) for one in told] == logged
    assert [one["data"] for one in told] == texts


async def live_events(task: Task) -> list[live.Encoded]:
    return list(await messages.Database().after(messages.task_topic(task.pk), 0, 1000))


async def test_a_comment_shows_that_the_line_lives(alice: User, settings: Any) -> None:
    settings.STREAM_BEAT_SECONDS = 0.02
    task = await sync_to_async(make_task)(owner=alice)
    async with requested("GET", path_of(task), alice) as heard:
        assert await heard.events(4) == [{"retry": "2000"}, {"": ""}, {"": ""}, {"": ""}]


async def test_execute_and_follow_in_one_request(alice: User, settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-platform-key"
    values = {"provider": "openai", "name": "scripted", "context_window": 100_000}
    await sync_to_async(make_model)(**values)
    async with requested("POST", "/api/v1/execute/stream", alice, BODY) as heard:
        assert heard.status == 200, await heard.body()
        assert heard.headers["content-type"] == "text/event-stream"
        task = await Task.objects.aget()
        told = [one for one in await heard.events(3) if "id" in one]
        assert json.loads(told[0]["data"])["task_id"] == str(task.pk)
        assert json.loads(told[0]["data"])["status"] == "pending"
        await sync_to_async(make_log)(task, kind="log.written", message="here")


async def test_a_refused_execution_has_a_plain_body(alice: User) -> None:
    async with requested("POST", "/api/v1/execute/stream", alice, BODY | {"prompt": ""}) as heard:
        assert (heard.status, heard.headers["content-type"]) == (400, "application/json")
        assert (await heard.body())["code"] == "VALIDATION_ERROR"


# --- What a stream costs -------------------------------------------------------------------------


async def test_a_stream_holds_no_thread_and_no_connection(alice: User) -> None:
    """What an idle stream waits for is the event loop's: Django has finished its request."""
    task = await sync_to_async(make_task)(owner=alice)
    async with requested("GET", path_of(task), alice) as heard:
        await heard.events(2)
        await until(lambda: "_tell_all" in running())
        assert not any("ASGIHandler" in name for name in running())


def running() -> list[str]:
    return [one.get_coro().__qualname__ for one in asyncio.all_tasks()]  # type: ignore[union-attr] # all are coroutines


async def test_a_client_that_leaves_ends_the_stream(alice: User) -> None:
    task = await sync_to_async(make_task)(owner=alice)
    async with requested("GET", path_of(task), alice) as heard:
        await heard.event()
        assert any(
            topic == f"task:{task.pk}" for hub in live._hubs.values() for topic in hub.topics
        )
    assert not any(hub.topics for hub in live._hubs.values())
