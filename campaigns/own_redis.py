"""The stage's own Redis, which a campaign may flush, hang, kill and fill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import redis
from django.conf import settings

from asynccoder import redis_server
from asynccoder.tests.processes import answers, launch, wait_for
from campaigns.stage import Stage
from tasks.actors import broker


class OwnRedis:
    """The server that ``open_stage`` has started. Raises ValueError when it is another's."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._folder = stage.folder / "redis"
        self.url = settings.REDIS_URL
        if redis_server.url(self._folder) != self.url:
            raise ValueError("this Redis is not the stage's own")
        # Its own name for itself cannot be asked for once it hangs.
        self._pid = self._ask_pid()

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        with redis.Redis.from_url(self.url) as client:
            yield client

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        wait_for(lambda: not answers(self.url), what="Redis is dead")

    def start(self, *, is_empty: bool = False) -> None:
        """Start it on the log that it has kept, or on nothing."""
        if is_empty:
            shutil.rmtree(self._folder / "redis")
            redis_server.prepare(self._folder)
        log = self._stage.folder / "logs" / f"redis-{len(self._stage.processes)}.log"
        self._stage.processes.append(
            launch(redis_server.command(self._folder), self._stage.environment, log)
        )
        wait_for(lambda: answers(self.url), what="Redis answers again")
        self._pid = self._ask_pid()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Let it refuse every write that needs memory."""
        with self.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
            try:
                yield
            finally:
                client.config_set("maxmemory", "0")

    def _ask_pid(self) -> int:
        with self.client() as client:
            return int(client.info("server")["process_id"])


class Queue:
    """The doorbell's queue, as whoever can write to the Redis sees it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"{broker.namespace}:tasks"

    def ids(self) -> list[bytes]:
        found: list[bytes] = self.client.lrange(self.name, 0, -1)
        return found

    def body(self, message_id: bytes) -> bytes:
        return bytes(self.client.hget(f"{self.name}.msgs", message_id) or b"")

    def put(self, message_id: bytes, body: bytes | None) -> None:
        """Append a message; without a body only its id, as after a message that was answered."""
        if body is not None:
            self.client.hset(f"{self.name}.msgs", message_id, body)
        self.client.rpush(self.name, message_id)

    def replace(self, ids: list[bytes]) -> None:
        """Let these ids be the queue, in this order."""
        with self.client.pipeline() as pipe:
            pipe.delete(self.name)
            pipe.rpush(self.name, *ids)
            pipe.execute()
