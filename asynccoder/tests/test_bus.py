"""Notices to a Redis that does not answer."""

from __future__ import annotations

import socket
import time
from typing import Any
from uuid import uuid4

import pytest
import redis

from asynccoder.api import limits
from asynccoder.lib import bus
from tasks import actors


def test_a_redis_that_hangs_is_waited_for_once_not_at_every_event(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "_quiet_until", 0.0)
    monkeypatch.setattr(bus, "_hangs_until", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        for number in range(20):
            bus.ring("task:x", number)
        bus.client().close()
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_redis_that_hangs_is_not_asked_by_limits_and_the_doorbell_either(
    settings: Any, monkeypatch: pytest.MonkeyPatch, rf: Any
) -> None:
    settings.RATELIMIT_ENABLE = True
    limit = limits.Limit("general", "5/1m", uuid4().hex)
    asked: list[str] = []
    monkeypatch.setattr(actors.run_due, "send", asked.append)
    monkeypatch.setattr(bus, "_hangs_until", time.monotonic() + 60)
    assert limits.count(rf.get("/"), limit) is None
    actors.ring("unheard")
    monkeypatch.setattr(bus, "_hangs_until", 0.0)
    assert limits.count(rf.get("/"), limit) is not None
    actors.ring("heard")
    assert asked == ["heard"]


def test_only_a_redis_that_lets_wait_counts_as_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_quiet_until", "_hangs_until"):
        monkeypatch.setattr(bus, name, 0.0)
    bus.note_failure(redis.ConnectionError())
    assert not bus.is_hanging()
    bus.note_failure(redis.TimeoutError())
    assert bus.is_hanging()


def test_what_is_gathered_is_sent_as_the_newest_of_each_topic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[list[str]] = []
    monkeypatch.setattr(bus, "_publish", lambda notices: sent.append(list(notices)))
    bus.ring("task:x", 1)
    with bus.gathering():
        for topic, sequence in (("task:x", 2), ("user:y", 7), ("task:x", 3)):
            bus.ring(topic, sequence)
        assert sent == [["task:x 1"]]
        bus.send()
        bus.send()
        assert sent == [["task:x 1"], ["task:x 3", "user:y 7"]]
        bus.ring("task:x", 4)
    assert sent[2:] == [["task:x 4"]]
    bus.ring("task:x", 5)
    assert sent[3:] == [["task:x 5"]]


def test_several_notices_reach_their_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "_quiet_until", 0.0)
    listener: Any = bus.client().pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # redis-py's own
    listener.subscribe(bus.channel())
    listener.get_message(timeout=5)
    with bus.gathering():
        bus.ring("task:x", 4)
        bus.ring("user:y", 9)
    heard = [listener.get_message(timeout=5) for _ in range(2)]
    assert [message and message["data"] for message in heard] == [b"task:x 4", b"user:y 9"]
    listener.close()
