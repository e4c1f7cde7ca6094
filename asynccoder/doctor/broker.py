"""Redis: the cache and the doorbell, tried for real on keys of the doctor's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any
from uuid import uuid4

import redis
from django.conf import settings
from django.core.cache import cache
from dramatiq import Message
from dramatiq.errors import ConnectionClosed

from asynccoder import redis_server
from asynccoder.doctor.findings import Finding, failed, ok, warning
from tasks import doorbell
from tasks.doorbell import Doorbell

OLDEST = (6, 0)
FULL, NEARLY_FULL = 0.95, 0.8
THREADS, TURNS = 4, 25
EXPIRY_SECONDS = 1
PATIENCE_SECONDS = 3.0
QUEUE = "tasks"


def check_cache() -> Iterator[Finding]:
    """Set, get, count from several threads, and wait for an expiry."""
    key = f"doctor:{uuid4().hex}"
    try:
        cache.set(key, 0, timeout=60)
        _count_together(key)
        counted = cache.get(key)
        cache.set(key, "short", timeout=EXPIRY_SECONDS)
        has_expired = _wait_until_gone(key)
        cache.delete(key)
    except redis.RedisError as error:
        yield failed(f"it does not work ({type(error).__name__}): see the line of Redis.")
        return
    if counted != THREADS * TURNS:
        yield failed(f"{THREADS * TURNS} counts made {counted}: rate limits let too much through;"
                     " CACHES must name Redis.")  # fmt: skip
    elif not has_expired:
        yield failed("what should expire stays: rate limits would never end.")
    else:
        yield ok("sets, counts and forgets")


def _count_together(key: str) -> None:
    def count() -> None:
        # Whatever is wrong shows in the sum, or when the sum is read.
        with suppress(redis.RedisError, ValueError):
            for _ in range(TURNS):
                cache.incr(key)

    threads = [threading.Thread(target=count) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _wait_until_gone(key: str) -> bool:
    end = time.monotonic() + EXPIRY_SECONDS + PATIENCE_SECONDS
    while cache.get(key) is not None:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def check_redis() -> Iterator[Finding]:
    """Look at the server's own figures, then ring a doorbell of the doctor's own."""
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5
        ) as client:
            info: dict[str, Any] = client.info()
            found = [*_server(info), *_memory(info)]
            if info.get("role") == "master":
                found += _bell(client)
            else:
                found.append(failed("REDIS_URL leads to a replica: name the primary."))
    except (redis.RedisError, ConnectionClosed, ValueError) as error:
        is_own = redis_server.url(settings.VAR_DIR) == settings.REDIS_URL
        what_to_do = "the embedded one runs with make run" if is_own else "check REDIS_URL"
        yield failed(f"it does not answer ({type(error).__name__}): {what_to_do}.")
        return
    yield from found
    if not found:
        name = "Valkey" if "valkey_version" in info else "Redis"
        version = info.get("valkey_version", info["redis_version"])
        yield ok(f"{name} {version}; the doorbell rings and wakes")


def _server(info: dict[str, Any]) -> Iterator[Finding]:
    version = str(info["redis_version"])
    if tuple(int(number) for number in version.split(".")[:2]) < OLDEST:
        yield failed(f"Redis {version} is too old: it must be 6.0 or newer.")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        yield failed(f"its maxmemory-policy is {policy}: bells and rate limits may vanish;"
                     " set noeviction.")  # fmt: skip
    elif policy != "noeviction":
        yield warning(f"its maxmemory-policy is {policy}: rate limits may be forgotten;"
                      " set noeviction.")  # fmt: skip


def _memory(info: dict[str, Any]) -> Iterator[Finding]:
    most = int(info.get("maxmemory", 0))
    share = int(info["used_memory"]) / most if most else 0.0
    said = f"it uses {share:.0%} of its maxmemory"
    if share >= FULL:
        yield failed(f"{said} and soon takes nothing any more: raise maxmemory.")
    elif share >= NEARLY_FULL:
        yield warning(f"{said}: raise maxmemory.")


def _bell(client: redis.Redis) -> Iterator[Finding]:
    """Send a message with its wake, hear it, answer it; leave nothing behind."""
    namespace = f"{settings.REDIS_PREFIX}:doctor:{uuid4().hex}"
    bell = Doorbell(
        url=settings.REDIS_URL, namespace=namespace, middleware=[], wait_for_room=lambda _: True
    )
    wakes = doorbell.wakes_of(namespace, QUEUE)
    keys = [
        f"{namespace}:{QUEUE}",
        f"{namespace}:{QUEUE}.msgs",
        f"{namespace}:__heartbeats__",
        wakes,
    ]
    try:
        bell.enqueue(Message(QUEUE, "doctor", (), {}, {}))
        woken = bool(client.llen(wakes))
        with closing(bell.consume(QUEUE, timeout=1000)) as consumer:
            heard = next(consumer)
            if heard is not None:
                consumer.ack(heard)
    except redis.ResponseError as error:
        yield failed(f"it takes no message ({type(error).__name__}): tasks wait for the sweeper;"
                     " see its memory and the rights of its user.")  # fmt: skip
        return
    finally:
        client.delete(*keys, f"{namespace}:__acks__.{bell.broker_id}.{QUEUE}")
        bell.client.close()
    if heard is None or not woken:
        yield failed("a bell was rung and not heard: another version may share REDIS_PREFIX.")
