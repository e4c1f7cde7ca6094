"""One hub per process tells its sockets that there is something new; the database says what.

There is one Redis subscription per process. A notice ("topic sequence") makes the hub read the
new events once and encode them once; every listener takes them from there at its own pace. A
listener holds nothing but its place, so a slow one costs no memory: it finds what it has not sent
yet in the shared tail or, further back, in the database. Where Redis is away the hub asks the
database every POLL_SECONDS; where it is not, it still asks now and then, for a notice may be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import redis.asyncio as redis
from django.conf import settings
from django.db import Error as DatabaseError
from redis.exceptions import RedisError

from asynccoder.lib import bus

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
CALM_POLL_SECONDS = 15.0
RETRY_SECONDS = 1.0
TAIL = 256
"""Encoded events that a topic keeps for listeners that are a little behind."""
PAGE = 100


@dataclass(frozen=True, slots=True)
class Encoded:
    """An event as it goes over the wire. ``is_last``: nothing can come after it."""

    sequence: int
    text: str
    is_last: bool = False
    name: str = ""
    """What a stream of Server-Sent Events calls it."""


class Source(Protocol):
    """Where events come from."""

    async def after(self, topic: str, sequence: int, limit: int) -> Sequence[Encoded]:
        """Return the events of a topic behind a sequence number, in order."""
        ...

    async def newest(self, topics: Sequence[str]) -> dict[str, int]:
        """Return the newest sequence number of each topic that exists."""
        ...


@dataclass(slots=True, eq=False)
class Listener:
    """One socket's place in a topic."""

    topic: Topic
    place: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class Topic:
    """What the process knows of one topic."""

    name: str
    told: int
    read: int
    tail: deque[Encoded] = field(default_factory=lambda: deque(maxlen=TAIL))
    listeners: set[Listener] = field(default_factory=set)
    reading: asyncio.Task[None] | None = None

    def behind(self, place: int) -> list[Encoded] | None:
        """Return the events behind a place from the tail; None where the tail begins later."""
        if not self.tail or self.tail[0].sequence > place + 1:
            return None
        events = list(self.tail)
        return events[bisect_right(events, place, key=lambda event: event.sequence) :]


class Hub:
    """Fans events out to the listeners of this process. Everything runs in one event loop."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.topics: dict[str, Topic] = {}
        self.is_degraded = True
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def listen(self, name: str, after: int | None) -> AsyncIterator[Listener]:
        """Join a topic behind a sequence number; without one, behind what there is now.

        The topic is registered before its newest number is read, so that no event falls between.
        """
        topic = self.topics.setdefault(name, Topic(name, 0, 0))
        listener = Listener(topic, after if after is not None else -1)
        topic.listeners.add(listener)
        try:
            self._start()
            newest = (await self.source.newest([name])).get(name, 0)
            if after is None:
                listener.place = newest
            if not topic.tail and topic.reading is None:
                topic.read = max(topic.read, newest)
            self.tell(name, newest)
            yield listener
        finally:
            topic.listeners.discard(listener)
            if not topic.listeners:
                await self._forget(topic)

    async def events(self, listener: Listener) -> AsyncIterator[Encoded]:
        """Give the listener every event behind its place, once and in order, for ever."""
        topic = listener.topic
        while True:
            listener.woken.clear()
            if listener.place >= topic.read:
                await listener.woken.wait()
                continue
            found = topic.behind(listener.place)
            if found is None:
                found = list(await self.source.after(topic.name, listener.place, PAGE))
            for event in found:
                yield event
                listener.place = event.sequence
            if not found:
                # Told of events that are not there (yet): look again at the next notice or poll.
                await listener.woken.wait()

    def tell(self, name: str, sequence: int) -> None:
        """Note that a topic has reached a sequence number, and read up to it."""
        topic = self.topics.get(name)
        if topic is None:
            return
        topic.told = max(topic.told, sequence)
        if topic.told > topic.read and topic.reading is None:
            topic.reading = _for_all(self._read(topic))
        self._wake(topic)

    async def _read(self, topic: Topic) -> None:
        """Read what is new once for all listeners."""
        try:
            while topic.read < topic.told:
                events = await self.source.after(topic.name, topic.read, PAGE)
                if not events:
                    break
                topic.tail.extend(events)
                topic.read = events[-1].sequence
                self._wake(topic)
        except DatabaseError:
            logger.exception(
                "events of %s could not be read; the next poll tries again", topic.name
            )
        finally:
            topic.reading = None

    @staticmethod
    def _wake(topic: Topic) -> None:
        for listener in topic.listeners:
            listener.woken.set()

    async def _forget(self, topic: Topic) -> None:
        self.topics.pop(topic.name, None)
        ending = [topic.reading] if topic.reading is not None else []
        if not self.topics:
            ending += self._tasks
            self._tasks = []
        await _cancel(ending)

    # --- Where notices come from ------------------------------------------------------------------

    def _start(self) -> None:
        if not self._tasks:
            self._tasks = [
                _for_all(self._for_ever(self._subscribe)),
                _for_all(self._for_ever(self._poll)),
            ]

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except (RedisError, OSError) as error:
                logger.info("no live notices: %s", type(error).__name__)
            except DatabaseError:
                logger.exception("the newest events could not be asked for")
            await asyncio.sleep(RETRY_SECONDS)

    async def _subscribe(self) -> None:
        """Hear notices until Redis is lost."""
        client = redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=2, health_check_interval=10
        )
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(bus.channel())
                while True:
                    await self._hear(pubsub)
        except (RedisError, OSError):
            if not self.is_degraded:
                logger.warning("live notices are lost; the database is asked instead")
            raise
        finally:
            self.is_degraded = True
            await client.aclose()

    async def _hear(self, pubsub: redis.client.PubSub) -> None:
        message = await pubsub.get_message(timeout=5)
        if message is None:
            await pubsub.ping()
        elif message["type"] == "message":
            self._heard(message["data"])
        elif message["type"] == "subscribe":
            self.is_degraded = False
            # What came before the subscription was announced to nobody here.
            await self._ask_database()

    def _heard(self, data: bytes) -> None:
        topic, _, sequence = data.decode("utf-8", "replace").rpartition(" ")
        if sequence.isdigit():
            self.tell(topic, int(sequence))

    async def _poll(self) -> None:
        waited = 0.0
        while True:
            await asyncio.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
            if self.is_degraded or waited >= CALM_POLL_SECONDS:
                waited = 0.0
                await self._ask_database()

    async def _ask_database(self) -> None:
        for name, sequence in (await self.source.newest(list(self.topics))).items():
            self.tell(name, sequence)


def _for_all(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Start what serves every listener, and outlives the one that needs it first.

    Its log lines bear the id of none of them, and it shares nobody's thread.
    """
    return asyncio.create_task(work, context=contextvars.Context())


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End tasks. redis-py loses a cancellation that comes while it connects, so ask again."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.2)


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()


def hub(source: Source) -> Hub:
    """Return the hub of the running event loop; a server has one loop, so one hub."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub(source)
    return _hubs[loop]
