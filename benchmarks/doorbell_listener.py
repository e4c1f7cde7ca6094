"""``python -m benchmarks.doorbell_listener KIND KEY``: one of the listeners that are measured.

Each puts the time at which it began to work on a ring, by CLOCK_MONOTONIC, on the list KEY.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import dramatiq
import redis

from tasks.doorbell import Doorbell


def stamp(client: redis.Redis, key: str) -> None:
    now = time.monotonic()
    client.rpush(key, repr(now))


def bell(url: str, prefix: str, key: str) -> dramatiq.Actor[[], None]:
    """Return an actor on a doorbell of its own."""
    always = threading.Event()
    always.set()
    broker = Doorbell(url=url, namespace=f"{prefix}:bell", middleware=[], wait_for_room=always.wait)
    client = redis.Redis.from_url(url)

    def heard() -> None:
        stamp(client, key)

    return dramatiq.actor(broker=broker, queue_name="bell")(heard)


def hear_bell(url: str, prefix: str, key: str) -> None:
    dramatiq.Worker(bell(url, prefix, key).broker, worker_threads=1).start()
    signal.pause()


def hear_list(url: str, prefix: str, key: str) -> None:
    """Be the floor: nothing but a blocking pop."""
    client = redis.Redis.from_url(url, socket_timeout=None)
    while True:
        client.brpop([f"{prefix}:floor"])
        stamp(client, key)


def work(url: str, prefix: str, key: str) -> None:
    """Be ``manage.py worker``, which says when it has won a lease."""
    import django

    django.setup()
    from django.core.management import call_command

    from tasks import lease

    client = redis.Redis.from_url(url)
    claim = lease.claim

    def stamped(**arguments: Any) -> lease.Claim | None:
        claimed = claim(**arguments)
        if claimed is not None:
            stamp(client, key)
        return claimed

    lease.claim = stamped
    call_command("worker")


KINDS = {"worker": work, "actor": hear_bell, "brpop": hear_list}

if __name__ == "__main__":
    kind, heard_key = sys.argv[1:]
    KINDS[kind](os.environ["REDIS_URL"], os.environ["REDIS_PREFIX"], heard_key)
