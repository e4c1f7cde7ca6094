"""Live notices over Redis: "there is something new after sequence N", never content.

A notice that is lost costs nothing but time: whoever waits reads the database again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import redis
from django.conf import settings

logger = logging.getLogger(__name__)

WARN_SECONDS = 60.0
_warned_at = -WARN_SECONDS
QUIET_SECONDS = 5.0
"""How long nothing is rung after a failure: a server that hangs would cost two seconds an event."""
_gathered: dict[str, int] | None = None
"""The newest sequence of each topic that waits to be sent; None where nothing waits."""
_quiet_until = 0.0
_hangs_until = 0.0


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


def client() -> redis.Redis:
    """Return this process's Redis client; it connects when first used."""
    return _client(settings.REDIS_URL)


def channel() -> str:
    return f"{settings.REDIS_PREFIX}:live"


def is_hanging() -> bool:
    """Tell whether Redis has just let somebody of this process wait for nothing.

    Whoever can do without it does not ask it then: each would wait two seconds more.
    """
    return time.monotonic() < _hangs_until


def note_failure(error: Exception) -> None:
    """Remember that Redis has failed, and whether it hangs: a refusal holds nobody."""
    global _quiet_until, _hangs_until
    _quiet_until = time.monotonic() + QUIET_SECONDS
    if isinstance(error, redis.TimeoutError):
        _hangs_until = _quiet_until


def ring(topic: str, sequence: int) -> None:
    """Tell every web process that ``topic`` (``task:<id>`` or ``user:<id>``) reached a sequence.

    Call it in ``transaction.on_commit``. Redis being away is logged, never raised: the reader's
    own polling finds the row.
    """
    if _gathered is None:
        _publish([f"{topic} {sequence}"])
    else:
        _gathered[topic] = max(sequence, _gathered.get(topic, 0))


@contextmanager
def gathering() -> Iterator[None]:
    """Let what this process rings in the block wait for ``send``: one notice a topic, the newest.

    For a process that writes several events before it waits for something. The end of the block
    sends what is left; what is never sent, readers find by their own polling.
    """
    global _gathered
    _gathered = {}
    try:
        yield
    finally:
        send()
        _gathered = None


def send() -> None:
    """Send what was gathered. Call it before whatever may take a while."""
    if _gathered:
        notices = [f"{topic} {sequence}" for topic, sequence in _gathered.items()]
        _gathered.clear()
        _publish(notices)


def _publish(notices: Sequence[str]) -> None:
    """Send notices in one round trip."""
    if time.monotonic() < _quiet_until:
        return
    try:
        if len(notices) == 1:
            client().publish(channel(), notices[0])
            return
        with client().pipeline(transaction=False) as pipeline:
            for notice in notices:
                pipeline.publish(channel(), notice)
            pipeline.execute()
    except redis.RedisError as error:
        note_failure(error)
        _warn(error)


def _warn(error: redis.RedisError) -> None:
    """Say at most once a minute that notices are not sent: there may be thousands of them."""
    global _warned_at
    if time.monotonic() - _warned_at >= WARN_SECONDS:
        _warned_at = time.monotonic()
        logger.warning("live notices are not sent: %s", type(error).__name__)
