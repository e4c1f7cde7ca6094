"""The doorbell wakes an idle worker at once; a wake that is lost costs no more than one wait."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
import redis
from django.conf import settings

from accounts.models import User
from asynccoder.tests.processes import Process, running_redis, wait_for
from tasks import actors, doorbell
from tasks.doorbell import Consumer, Doorbell
from tasks.models import Status, WorkerHeartbeat
from tasks.tests.make import make_task
from tasks.tests.world import SHORT, bash, build_world, finish

pytestmark = pytest.mark.services
FOR_EVER = 600_000
"""Milliseconds between two looks at the queue: no test would live to see the second."""


class Bell:
    """A broker of a test's own, what its workers heard, and the keys that it has in Redis."""

    def __init__(self, url: str) -> None:
        self.namespace = f"{settings.REDIS_PREFIX}:{uuid4().hex[:8]}"
        self.heard: list[str] = []
        self.has_room = threading.Event()
        self.has_room.set()
        self.client = redis.Redis.from_url(url)
        self.wakes = doorbell.wakes_of(self.namespace, "tasks")
        self._url = url
        self._stack = ExitStack()
        self._broker, self._actor = self.connect("nobody")

    def connect(self, name: str) -> tuple[Doorbell, Any]:
        """Return a broker and its actor, as another process would have them."""
        broker = Doorbell(
            url=self._url,
            namespace=self.namespace,
            middleware=[],
            wait_for_room=self.has_room.wait,
        )

        def hear(hint: str) -> None:
            self.heard.append(f"{name} {hint}")

        actor = dramatiq.actor(broker=broker, queue_name="tasks")(hear)
        self._stack.callback(broker.client.close)
        return broker, actor

    def ring(self, hint: str) -> None:
        self._actor.send(hint)

    def listen(self, name: str = "one", *, wait: int = FOR_EVER) -> dramatiq.Worker:
        """Start a listener and return it as soon as it waits for a wake."""
        waiting = self.waiting()
        broker, _ = self.connect(name)
        worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=wait)
        worker.start()
        self._stack.callback(worker.stop, timeout=0)
        if self.has_room.is_set():
            wait_for(lambda: self.waiting() == waiting + 1, what=f"{name} waits")
        return worker

    def waiting(self) -> int:
        """Return how many consumers wait; the server may serve others' as well."""
        return sum(1 for row in self.client.client_list() if row["cmd"] == "blpop")

    def end(self) -> None:
        """Stop the listeners once each has answered what it heard."""
        queue = f"{self.namespace}:tasks"
        wait_for(lambda: self.client.hlen(f"{queue}.msgs") == self.client.llen(queue))
        self._stack.close()
        self.client.close()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    with running_redis(tmp_path / "own") as url:
        yield url


@pytest.fixture
def bell(own_redis: str) -> Iterator[Bell]:
    made = Bell(own_redis)
    yield made
    made.end()


def test_a_message_wakes_whoever_waits(bell: Bell) -> None:
    bell.listen()
    for number in range(3):
        bell.ring(f"bell {number}")
        wait_for(lambda: len(bell.heard) > number, what="it is heard")  # noqa: B023  # called at once
        wait_for(lambda: bell.waiting() == 1, what="the listener waits again")
    assert bell.heard == [f"one bell {number}" for number in range(3)]


def test_what_was_rung_before_anyone_listened_is_heard_first(bell: Bell) -> None:
    for number in range(3):
        bell.ring(f"early {number}")
    bell.listen()
    wait_for(lambda: len(bell.heard) == 3, what="all are heard")
    assert bell.heard == [f"one early {number}" for number in range(3)]


def test_the_wake_list_stays_short_and_ends(bell: Bell) -> None:
    for number in range(100):
        bell.ring(str(number))
    assert bell.client.llen(bell.wakes) == doorbell.WAKES_KEPT
    assert 0 < bell.client.ttl(bell.wakes) <= doorbell.WAKE_SECONDS
    bell.listen()
    wait_for(lambda: len(bell.heard) == 100, what="every message is heard all the same")
    wait_for(lambda: bell.client.llen(bell.wakes) == 0, what="no wake is left")


def test_one_message_wakes_one_of_two_listeners(bell: Bell) -> None:
    bell.listen("one")
    bell.listen("two")
    bell.ring("bell")
    wait_for(lambda: len(bell.heard) == 1, what="somebody hears it")
    wait_for(lambda: bell.waiting() == 2, what="both wait again")
    assert bell.client.llen(bell.wakes) == 0
    bell.ring("again")
    wait_for(lambda: len(bell.heard) == 2, what="somebody hears it")


def test_a_lost_wake_costs_one_wait(bell: Bell) -> None:
    bell.listen(wait=200)
    before = len(bell.heard)
    with bell.client.pipeline() as pipe:
        # The message comes, and its wake goes to somebody who dies with it.
        pipe.multi()
        bell_text = _message(bell)
        pipe.hset(f"{bell.namespace}:tasks.msgs", "lost", bell_text)
        pipe.rpush(f"{bell.namespace}:tasks", "lost")
        pipe.execute()
    wait_for(lambda: len(bell.heard) == before + 1, what="the ordinary look finds it")


def _message(bell: Bell, redis_id: str = "lost") -> bytes:
    """Return the bytes of a message as the broker stores it under this id."""
    broker, actor = bell.connect("nobody")
    with closing(broker):
        message = actor.message(redis_id).copy(options={"redis_message_id": redis_id})
    return bytes(message.encode())


def test_a_listener_without_room_leaves_the_message_to_others(bell: Bell) -> None:
    bell.has_room.clear()
    bell.listen("full", wait=50)
    bell.ring("bell")
    assert bell.client.llen(f"{bell.namespace}:tasks") == 1
    assert bell.heard == []
    bell.has_room.set()
    wait_for(lambda: bell.heard == ["full bell"], what="it is heard once there is room")


def test_a_flushed_redis_is_rung_and_heard_again(bell: Bell) -> None:
    bell.listen(wait=200)
    bell.client.flushall()
    bell.client.script_flush()
    bell.ring("after")
    wait_for(lambda: bell.heard == ["one after"], what="it is heard")


def test_a_lost_connection_is_made_again(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    bell.listen()
    assert bell.client.client_kill_filter(_type="normal", skipme=True)
    wait_for(lambda: bell.waiting() == 1, what="the listener is back")
    bell.ring("bell")
    wait_for(lambda: bell.heard == ["one bell"], what="it is heard")


def test_a_listener_that_stops_does_not_wait_out_its_pop(bell: Bell) -> None:
    worker = bell.listen()
    threads = list(worker.consumers.values())
    worker.stop(timeout=0)
    wait_for(lambda: not any(thread.is_alive() for thread in threads), what="its thread ends")
    assert bell.waiting() == 0
    bell.ring("late")
    assert bell.client.llen(f"{bell.namespace}:tasks") == 1


def test_only_one_message_is_taken_at_a_time(bell: Bell) -> None:
    for number in range(3):
        bell.ring(str(number))
    broker, _ = bell.connect("slow")
    with closing(broker.consume("tasks", prefetch=8, timeout=20)) as consumer:
        first = next(consumer)
        assert first is not None
        assert next(consumer) is None
        assert bell.client.llen(f"{bell.namespace}:tasks") == 2
        consumer.ack(first)
        second = next(consumer)
        assert second is not None
        consumer.nack(second)
        third = next(consumer)
        assert third is not None
        consumer.ack(third)
    assert isinstance(consumer, Consumer)


# --- the whole chain ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\x00 no text",
        b"[1]",
        {"message_id": ["no text"]},
        {"queue_name": "another"},
        {"options": None},
        {"options": {}},
        {"options": {"redis_message_id": "strange", "eta": 32_503_680_000_000}},
        {"actor_name": "nobody_knows"},
        {"args": []},
    ],
    ids=str,
)
def test_what_is_no_bell_is_thrown_away_and_keeps_no_bell_back(bell: Bell, body: Any) -> None:
    if isinstance(body, dict):
        body = json.dumps(json.loads(_message(bell, "strange")) | body).encode()
    queue = f"{bell.namespace}:tasks"
    bell.client.hset(f"{queue}.msgs", "strange", body)
    bell.client.rpush(queue, "strange")
    bell.ring("after it")
    bell.listen()
    wait_for(lambda: bell.heard == ["one after it"], what="the bell behind it is heard")
    wait_for(lambda: not bell.client.hlen(f"{queue}.msgs"), what="nothing of it is left")


@pytest.mark.django_db(transaction=True)
def test_a_bell_and_no_sweep_starts_a_run(
    alice: User,
    worker_process: Callable[..., Process],
    tmp_path: Path,
    settings: Any,
) -> None:
    settings.OPENAI_API_KEY = "sk-platform-key"
    script = [bash("echo a line >> notes.txt"), *finish()]
    with build_world(alice, script, worker_process, tmp_path / "repository") as world:
        # The first sweep is at the start; there is no second one in this test's life.
        worker = world.worker(SWEEP_SECONDS="600")
        wait_for(WorkerHeartbeat.objects.exists, seconds=120, what="the worker serves")
        tasks = [world.create(prompt=f"Number {number}") for number in range(3)]
        for task in tasks:
            actors.ring(str(task.pk))
        for task in tasks:
            world.finished(task)
            assert (task.status, task.generation) == (Status.COMPLETED, 1)
        worker.send(signal.SIGTERM)
        worker.popen.wait(60)
        assert "connection error" not in worker.output()


@pytest.mark.django_db(transaction=True)
def test_a_sweep_fills_every_free_slot(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path
) -> None:
    for number in range(3):
        make_task(owner=alice, title=f"Number {number}")
    User.objects.filter(pk=alice.pk).update(concurrent_tasks=3)
    worker_process(**(SHORT | {"SWEEP_SECONDS": "600", "WORKER_SLOTS": "3"}))
    wait_for(
        lambda: alice.tasks.filter(generation=1).count() == 3, seconds=120, what="all are claimed"
    )


def test_a_server_that_takes_no_writes_is_asked_again(bell: Bell) -> None:
    bell.listen(wait=100)
    bell.client.config_set("maxmemory", "1")
    with pytest.raises(redis.RedisError):
        bell.ring("lost")
    wait_for(lambda: bell.waiting() == 0, what="the listener is refused")
    bell.client.config_set("maxmemory", "0")
    wait_for(lambda: bell.waiting() == 1, what="it listens again")
    bell.ring("heard")
    wait_for(lambda: bell.heard == ["one heard"], what="it hears")


def test_a_server_that_hangs_holds_nobody_who_rings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        broker = Doorbell(url=url, middleware=[], wait_for_room=lambda _: True)
        with pytest.raises(redis.TimeoutError):
            dramatiq.actor(broker=broker, queue_name="tasks")(len).send("never")
        broker.client.close()
