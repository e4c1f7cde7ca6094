"""The peer: a Celery application, and as a program its producer. Runs in the peers' environment.

``heard`` only says when it began. ``claim`` does what the platform's worker does when it hears the
bell, with the platform's own code, on a connection that stays open: the way there is compared.
The producer reads a task's name and a count from each line of its input, rings so often, and
answers with the time before the first ring.
"""

from __future__ import annotations

import os
import sys
import time

import redis
from celery import Celery

KEY = os.environ["BENCH_KEY"]
URL = os.environ["REDIS_URL"]
# Celery would see Django's settings and make a new connection to the database for every task.
SETTINGS = os.environ.pop("DJANGO_SETTINGS_MODULE")

app = Celery("bench", broker=URL.replace("unix://", "redis+socket://", 1))
app.conf.task_ignore_result = True
app.conf.broker_transport_options = {"global_keyprefix": os.environ["BENCH_PREFIX"]}
client = redis.Redis.from_url(URL)


def stamp() -> None:
    now = time.monotonic()
    client.rpush(KEY, repr(now))


@app.task(name="heard")  # type: ignore[untyped-decorator]  # Celery is in another environment
def heard() -> None:
    stamp()


@app.task(name="claim")  # type: ignore[untyped-decorator]  # Celery is in another environment
def claim() -> None:
    from tasks import lease
    from tasks.models import Status

    claimed = lease.claim(worker="celery")
    stamp()
    if claimed is not None:
        lease.finish(claimed, lease.Ending(Status.CANCELLED))


def produce() -> None:
    for line in sys.stdin:
        name, count = line.split()
        first = time.monotonic()
        for _ in range(int(count)):
            app.send_task(name)
        print(repr(first), flush=True)


if __name__ == "__main__":
    produce()
else:
    # The platform's packages come after the peer's own.
    sys.path += os.environ["BENCH_PACKAGES"].split(os.pathsep)
    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
    import django

    django.setup()
