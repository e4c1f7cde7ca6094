"""The sockets: who may listen, what is sent, and that nothing is lost or sent twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.db import connections
from django.test import Client

from accounts import feed, tokens
from accounts.models import User
from asynccoder.asgi import application
from tasks import consumers, events, following, live
from tasks.events import Event
from tasks.models import Status, Task, TaskResult, TaskType
from tasks.tests.make import make_log, make_task
from tasks.tests.story import completed_task, end, running_task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


def token_of(user: User) -> str:
    return str(tokens.begin(user, user_agent="", address=None).access)


@pytest.fixture(autouse=True)
async def _no_connection_is_left() -> AsyncIterator[None]:
    """Close what the thread behind ``sync_to_async`` opened; PostgreSQL would keep it."""
    yield
    await sync_to_async(connections.close_all)()


@asynccontextmanager
async def connected(
    path: str, headers: list[tuple[bytes, bytes]] | None = None
) -> AsyncIterator[WebsocketCommunicator]:
    socket = WebsocketCommunicator(application, path, headers=headers)
    accepted, _ = await socket.connect(timeout=60)
    assert accepted
    try:
        yield socket
    finally:
        await socket.disconnect(timeout=60)


async def close_code(socket: WebsocketCommunicator, timeout: float = 60) -> int:
    """Return the code the server closes with; messages before that are skipped."""
    while True:
        message = await socket.receive_output(timeout)
        if message["type"] == "websocket.close":
            return int(message["code"])


async def received(socket: WebsocketCommunicator, count: int) -> list[dict[str, Any]]:
    return [json.loads(await socket.receive_from(timeout=60)) for _ in range(count)]


async def append(task: Task, kind: str = "log.written", **values: Any) -> int:
    return await sync_to_async(events.append)(task.pk, Event(kind, **values))


# --- Who may listen ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws", "/api/ws/task/{}"])
async def test_a_number_of_any_length_is_taken(alice: User, path: str) -> None:
    task = await sync_to_async(make_task)(owner=alice)
    token = await sync_to_async(token_of)(alice)
    address = f"{path.format(task.pk)}?after={'9' * 5000}&heartbeat=1&token={token}"
    async with connected(address) as socket:
        assert (await received(socket, 1))[0]["type"] in {"connected", "ping"}


async def test_a_message_without_end_is_no_sign_in() -> None:
    async with connected("/ws") as socket:
        await socket.send_to(text_data="[" * 8000)
        assert await close_code(socket) == 4401


async def test_who_brings_a_credential_needs_no_place_of_the_unknown(
    alice: User, settings: Any
) -> None:
    settings.SOCKETS_UNKNOWN = 1
    token = await sync_to_async(token_of)(alice)
    async with connected("/ws") as silent:
        assert await silent.receive_nothing()
        async with connected("/ws") as second:
            assert await close_code(second) == 4429
        async with connected(f"/ws?heartbeat=1&token={token}") as signed_in:
            assert (await received(signed_in, 1))[0]["type"] == "ping"


async def test_stranger_hears_that_there_is_no_such_task(alice: User, mallory: User) -> None:
    task = await sync_to_async(make_task)(owner=alice)
    token = await sync_to_async(token_of)(mallory)
    async with connected(f"/api/ws/task/{task.pk}?token={token}") as socket:
        assert await close_code(socket) == 4404
    own = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/task/{task.pk}?token={own}") as socket:
        assert (await received(socket, 1))[0]["type"] == "connected"


@pytest.mark.parametrize(("kind", "type"), [("build", "build"), ("analysis", "analysis")])
async def test_stranger_hears_that_a_build_is_not_theirs(
    alice: User, mallory: User, kind: str, type: str
) -> None:
    task = await sync_to_async(make_task)(owner=alice, type=type)
    token = await sync_to_async(token_of)(mallory)
    async with connected(f"/api/ws/{kind}/{task.pk}?token={token}") as socket:
        assert await close_code(socket) == 4403
    async with connected(f"/api/ws/{kind}/{alice.pk}?token={token}") as socket:
        assert await close_code(socket) == 4404


@pytest.mark.parametrize("path", ["/ws?token=wrong", "/api/ws/task/x?token=wrong"])
async def test_wrong_token_is_4401(db: None, path: str) -> None:
    async with connected(path) as socket:
        assert await close_code(socket) == 4401


@pytest.mark.parametrize("path", ["/api/ws/nothing/1", "/elsewhere", "/api/ws/task/not-a-uuid"])
async def test_what_does_not_exist_is_4404(alice: User, path: str) -> None:
    token = await sync_to_async(token_of)(alice)
    async with connected(f"{path}?token={token}") as socket:
        assert await close_code(socket) == 4404


async def test_first_message_may_carry_the_token(alice: User) -> None:
    token = await sync_to_async(token_of)(alice)
    await sync_to_async(feed.append)(user_id=alice.pk, event="credits:updated", data={})
    async with connected("/ws?after=0") as socket:
        await socket.send_to(json.dumps({"type": "auth", "token": token}))
        assert (await received(socket, 1))[0]["event"] == "credits:updated"
    async with connected("/ws?after=0") as socket:
        await socket.send_to(json.dumps({"type": "auth", "token": "wrong"}))
        assert await close_code(socket) == 4401


async def test_silence_is_ended_with_4408(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "AUTH_SECONDS", 0.05)
    async with connected("/ws") as socket:
        assert await close_code(socket) == 4408


async def test_too_many_sockets_are_4429(alice: User, settings: Any) -> None:
    settings.SOCKETS_PER_USER = 2
    token = await sync_to_async(token_of)(alice)
    path = f"/ws?token={token}&heartbeat=1"
    async with connected(path) as one, connected(path) as two:
        await received(one, 1)
        await received(two, 1)
        async with connected(path) as three:
            assert await close_code(three) == 4429
    async with connected(path) as again:
        assert (await received(again, 1))[0]["type"] == "ping"


def cookie_of(user: User) -> bytes:
    client = Client()
    client.force_login(user)
    (morsel,) = client.cookies.values()
    return f"{morsel.key}={morsel.value}".encode()


async def test_session_counts_only_on_our_own_pages(alice: User) -> None:
    cookie = await sync_to_async(cookie_of)(alice)
    own = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"cookie", cookie)]
    async with connected("/ws?heartbeat=1", own) as socket:
        assert (await received(socket, 1))[0]["type"] == "ping"
    foreign = [(b"host", b"localhost"), (b"origin", b"http://evil.example"), (b"cookie", cookie)]
    async with connected("/ws?heartbeat=1", foreign) as socket:
        await socket.send_to("{}")
        assert await close_code(socket) == 4401


async def test_socket_of_a_disabled_account_is_closed(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RECHECK_SECONDS", 0.05)
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/ws?token={token}&heartbeat=1") as socket:
        await received(socket, 1)
        await sync_to_async(User.objects.filter(pk=alice.pk).update)(is_active=False)
        assert await close_code(socket) == 4401


# --- What is sent --------------------------------------------------------------------------------


async def test_run_is_told_as_progress_and_ends_with_completion(alice: User) -> None:
    task = await sync_to_async(running_task)(alice, type=TaskType.BUILD)
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/build/{task.pk}?token={token}") as socket:
        hello, *replayed = await received(socket, task.event_sequence + 1)
        assert hello["message"] == "Connected to build updates"
        assert [message["sequence"] for message in replayed] == list(
            range(1, task.event_sequence + 1)
        )
        step = next(m for m in replayed if m["data"]["kind"] == "task.progressed")
        assert (step["type"], step["status"], step["progress"]) == ("progress", "running", 62)
        assert step["data"]["current_step"] == "Round once"
        await sync_to_async(finish)(task)
        (last,) = await received(socket, 1)
        assert (last["type"], last["status"], last["progress"]) == ("completion", "completed", 100)
        assert last["results"]["generated_files"] == ["a.py"]
        assert last["results"]["checks_failed"] == 0
        assert await close_code(socket) == 1000


def finish(task: Task) -> None:
    TaskResult.objects.create(task=task, kind="code_changes", files=[{"path": "a.py"}])
    end(task, Status.COMPLETED, progress=100, outcome="done")
    events.append(task.pk, Event("task.completed"))


async def test_failure_is_told_as_error(alice: User) -> None:
    task = await sync_to_async(make_task)(owner=alice)
    await sync_to_async(end)(task, Status.FAILED, error_message="No network", error_code="x")
    await append(task, "task.failed")
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/task/{task.pk}?token={token}") as socket:
        _, last = await received(socket, 2)
        assert (last["type"], last["status"], last["error"]) == ("error", "failed", "No network")


async def test_who_has_seen_the_end_is_told_nothing_twice(alice: User) -> None:
    task = await sync_to_async(completed_task)(alice)
    token = await sync_to_async(token_of)(alice)
    path = f"/api/ws/task/{task.pk}?token={token}&after={task.event_sequence}"
    async with connected(path) as socket:
        await received(socket, 1)
        assert await close_code(socket) == 1000


async def test_feed_without_after_begins_now_and_with_it_replays(alice: User) -> None:
    write = sync_to_async(feed.append)
    await write(user_id=alice.pk, event="credits:updated", data={"credits": 1})
    token = await sync_to_async(token_of)(alice)
    async with (
        connected(f"/ws?token={token}") as fresh,
        connected(f"/ws?token={token}&after=0") as replayed,
    ):
        assert (await received(replayed, 1))[0]["sequence"] == 1
        await until(lambda: f"user:{alice.pk}" in topics())
        await write(user_id=alice.pk, event="credits:updated", data={"credits": 2})
        (event,) = await received(fresh, 1)
        assert event == {"event": "credits:updated", "data": {"credits": 2}, "sequence": 2}
        assert (await received(replayed, 1))[0]["sequence"] == 2


def topics() -> dict[str, live.Topic]:
    return {name: topic for hub in live._hubs.values() for name, topic in hub.topics.items()}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_feed_of_another_user_stays_theirs(alice: User, mallory: User) -> None:
    token = await sync_to_async(token_of)(mallory)
    async with connected(f"/ws?token={token}&after=0") as socket:
        write = sync_to_async(feed.append)
        await write(user_id=alice.pk, event="credits:updated", data={"credits": 1})
        await write(user_id=mallory.pk, event="credits:updated", data={"credits": 2})
        (event,) = await received(socket, 1)
        assert event["data"] == {"credits": 2}
        assert await socket.receive_nothing(timeout=0.2)


# --- The hub -------------------------------------------------------------------------------------


async def test_hub_is_told_by_redis(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_SECONDS", 3600)
    task = await sync_to_async(make_task)(owner=alice, status=Status.RUNNING)
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/task/{task.pk}?token={token}") as socket:
        await received(socket, 1)
        await until(lambda: any(not hub.is_degraded for hub in live._hubs.values()))
        sent = [await append(task, message=str(number)) for number in range(300)]
        assert [m["sequence"] for m in await received(socket, 300)] == sent


async def test_hub_asks_the_database_where_redis_is_away(
    alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    monkeypatch.setattr(live, "POLL_SECONDS", 0.05)
    task = await sync_to_async(make_task)(owner=alice, status=Status.RUNNING)
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/task/{task.pk}?token={token}") as socket:
        await received(socket, 1)
        for number in range(5):
            sequence = await sync_to_async(make_log)(task, message=str(number))
            assert (await received(socket, 1))[0]["sequence"] == sequence.sequence


async def test_lost_notice_is_found_by_the_next_look(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(live, "CALM_POLL_SECONDS", 0.1)
    task = await sync_to_async(make_task)(owner=alice, status=Status.RUNNING)
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/task/{task.pk}?token={token}") as socket:
        await received(socket, 1)
        await sync_to_async(make_log)(task)  # Writes the row and rings nobody.
        assert (await received(socket, 1))[0]["sequence"] == 1


async def test_slow_listener_holds_its_place_only(alice: User) -> None:
    task = await sync_to_async(make_task)(owner=alice, status=Status.RUNNING)
    name = f"task:{task.pk}"
    source = Counting()
    hub = live.Hub(source)
    async with hub.listen(name, 0) as slow, hub.listen(name, 0) as fast:
        quick, sluggish = hub.events(fast), hub.events(slow)
        for number in range(1, 2001):
            source.last = number
            hub.tell(name, number)
            assert (await anext(quick)).sequence == number
        assert len(hub.topics[name].tail) == live.TAIL
        first = source.reads
        assert [(await anext(sluggish)).sequence for _ in range(2000)] == list(range(1, 2001))
        assert source.reads - first <= 2000 // live.PAGE
    assert not hub.topics
    await asyncio.sleep(0)


async def test_hundred_listeners_cost_one_read(db: None) -> None:
    source = Counting()
    hub = live.Hub(source)
    name = "task:00000000-0000-0000-0000-000000000000"
    async with hub.listen(name, 0), hub.listen(name, 0):
        listeners = [live.Listener(hub.topics[name], 0) for _ in range(100)]
        hub.topics[name].listeners.update(listeners)
        source.last = 1
        hub.tell(name, 1)
        got = await asyncio.gather(*(anext(hub.events(listener)) for listener in listeners))
        assert {event.sequence for event in got} == {1}
        assert source.reads == 1
        hub.topics[name].listeners.difference_update(listeners)


async def test_an_event_that_one_look_does_not_see_is_told_by_the_next(db: None) -> None:
    source = Counting()
    source.last, source.hidden = 2, 1
    hub = live.Hub(source)
    name = "task:00000000-0000-0000-0000-000000000000"
    async with hub.listen(name, 0) as listener:
        events = hub.events(listener)
        waiting = asyncio.ensure_future(anext(events))
        await until(lambda: source.reads >= 1)
        hub.tell(name, 2)
        assert (await asyncio.wait_for(waiting, 60)).sequence == 1
        assert (await anext(events)).sequence == 2


class Counting:
    """A source that has the events 1 to ``last`` of every topic."""

    def __init__(self) -> None:
        self.last = 0
        self.reads = 0
        self.hidden = 0
        """How many looks see nothing."""

    async def after(self, topic: str, sequence: int, limit: int) -> list[live.Encoded]:
        self.reads += 1
        await asyncio.sleep(0)
        end = min(self.last, sequence + limit) if self.reads > self.hidden else 0
        return [live.Encoded(number, str(number)) for number in range(sequence + 1, end + 1)]

    async def newest(self, topics: Any) -> dict[str, int]:
        return dict.fromkeys(topics, self.last)
