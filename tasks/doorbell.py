"""Dramatiq's Redis broker with a wake list, so that an idle worker hears a message at once.

The broker's own consumer sleeps between its looks at a queue. Here every message pushes a wake,
in the same transaction, and an idle consumer waits for one by a blocking pop. A wake only says
"look now": one that is lost costs the wait of ``timeout``, one too many costs one empty look.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import redis
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed, DecodeError

logger = logging.getLogger(__name__)

WAKES_KEPT = 16
"""A wake that nobody waits for serves one who was just about to; more than this are never needed."""
WAKE_SECONDS = 60
ANSWER_SECONDS = 5.0
RING_SECONDS = 2.0


class Doorbell(RedisBroker):
    """A broker whose consumers wait for a wake, and listen only while there is room for work.

    ``wait_for_room`` waits up to so many seconds and tells whether this process can take a
    message. A message that this process cannot take stays for others. Nothing is ever delayed
    here, so there are no queues of delayed messages.
    """

    def __init__(self, *, url: str, wait_for_room: Callable[[float], bool], **options: Any) -> None:
        # Who rings is often a web request: a server that hangs must not hold it.
        waits = {"socket_timeout": RING_SECONDS, "socket_connect_timeout": RING_SECONDS}
        client = redis.Redis.from_url(url, **waits)
        super().__init__(client=client, **options)  # type: ignore[no-untyped-call]  # no annotations
        self.url = url
        self.wait_for_room = wait_for_room
        self.scripts["dispatch"] = _WakingScript(self.client, self.scripts["dispatch"])

    @property
    def consumer_class(self) -> type[Consumer]:
        return Consumer

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)


class _WakingScript:
    """The broker's script; what it enqueues is stored together with a wake."""

    def __init__(self, client: redis.Redis, script: Any) -> None:
        self._client = client
        self._script = script

    def __call__(self, *, keys: list[str], args: list[Any]) -> Any:
        command, _, queue_name, *_ = args
        if command != "enqueue":
            return self._script(keys=keys, args=args)
        wakes = wakes_of(keys[0], queue_name)
        with self._client.pipeline() as pipe:
            # The text, not its digest: a digest may be unknown, and asking costs a round trip.
            pipe.eval(self._script.script, len(keys), *keys, *args)
            pipe.rpush(wakes, "1")
            pipe.ltrim(wakes, -WAKES_KEPT, -1)
            pipe.expire(wakes, WAKE_SECONDS)
            return pipe.execute()[0]


def wakes_of(namespace: str, queue_name: str) -> str:
    """Return the key of a queue's wake list."""
    return f"{namespace}:{queue_name}.wakes"


class Consumer(_RedisConsumer):
    """One message at a time: the next is fetched when the one before it has been answered."""

    def __init__(self, broker: Doorbell, queue_name: str, prefetch: int, timeout: int) -> None:
        # With a timeout of zero the look itself never sleeps.
        super().__init__(broker, queue_name, 1, 0)  # type: ignore[no-untyped-call]  # no annotations
        self._wait_for_room = broker.wait_for_room
        self._wakes = wakes_of(broker.namespace, queue_name)
        self._seconds = timeout / 1000
        self._answered = threading.Event()
        self._answered.set()
        self._is_closed = False
        # Of its own: it must outlive a blocking pop, and notice a server that has vanished.
        self._client = redis.Redis.from_url(
            broker.url, socket_timeout=self._seconds + ANSWER_SECONDS
        )

    def __next__(self) -> MessageProxy | None:
        """Return a message, or None after a wake or ``timeout``. Raises ConnectionClosed."""
        if not self._answered.wait(self._seconds) or not self._wait_for_room(self._seconds):
            return None
        try:
            message = self._fetch()
            if message is None:
                self._client.blpop([self._wakes], timeout=self._seconds)
            else:
                self._answered.clear()
        except (redis.ConnectionError, redis.TimeoutError, ValueError) as error:
            # A ValueError is that of a socket that ``close`` has ended under the read.
            if self._is_closed:
                return None
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]  # no annotations
        return message

    def _fetch(self) -> MessageProxy | None:
        """Return the next message that is a bell; what is none is thrown away.

        Left to Dramatiq, one that names another queue ends its only worker thread, one that is to
        wait keeps all others back, and one that cannot be read costs seconds.
        """
        while True:
            try:
                message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]  # no annotations
            except (DecodeError, TypeError) as error:
                # A TypeError is that of a message whose id is no text.
                self._throw_away(type(error).__name__)
                continue
            if message is None or self._is_bell(message):
                return message
            self._throw_away("no bell")

    def _is_bell(self, message: MessageProxy) -> bool:
        options = message.options
        return (
            message.queue_name == self.queue_name
            and isinstance(options, dict)
            and isinstance(options.get("redis_message_id"), str)
            and "eta" not in options
        )

    def _throw_away(self, why: str) -> None:
        """Answer all that was fetched here and not answered: nothing else is, one at a time."""
        logger.warning("a message that is no bell is thrown away: %s", why)
        self.queued_message_ids.clear()
        acks = f"{self.broker.namespace}:__acks__.{self.broker.broker_id}.{self.queue_name}"
        for message_id in self.broker.client.smembers(acks):
            self.broker.do_ack(self.queue_name, message_id)

    def ack(self, message: MessageProxy) -> None:
        try:
            super().ack(message)  # type: ignore[no-untyped-call]  # no annotations
        finally:
            self._answered.set()

    def nack(self, message: MessageProxy) -> None:
        try:
            super().nack(message)  # type: ignore[no-untyped-call]  # no annotations
        finally:
            self._answered.set()

    def close(self) -> None:
        """Stop waiting at once: the thread that waits sees its connection end."""
        self._is_closed = True
        self._client.close()
