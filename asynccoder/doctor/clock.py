"""The machine's clock against those of the database and of Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import redis
from django.conf import settings
from django.db import connection
from django.db.utils import DatabaseError

from asynccoder.doctor.findings import Finding, failed, ok, warning

WARNING_SECONDS, FAILED_SECONDS = 2.0, 10.0


def check_clock() -> Iterator[Finding]:
    """Leases go by the database's clock, tokens and time limits of runs by this machine's."""
    clocks: dict[str, Callable[[], float]] = {"Redis": _redis_time}
    if connection.vendor == "postgresql":
        clocks["the database"] = _database_time
    for name, read in clocks.items():
        try:
            yield _compare(name, read)
        except (DatabaseError, redis.RedisError):
            yield warning(f"{name} does not answer, so its clock is not compared.")


def _compare(name: str, read: Callable[[], float]) -> Finding:
    before = time.time()
    theirs = read()
    after = time.time()
    # The answer is from some moment between the two.
    apart = max(before - theirs, theirs - after, 0.0)
    if apart <= WARNING_SECONDS:
        return ok(f"within {WARNING_SECONDS:.0f} s of {name}")
    direction = "ahead of" if before > theirs else "behind"
    message = (
        f"this machine is {apart:.0f} s {direction} {name}: leases go by the database's clock,"
        " tokens and time limits by this one; let both follow NTP."
    )
    return failed(message) if apart > FAILED_SECONDS else warning(message)


def _database_time() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        return float(cursor.fetchone()[0])


def _redis_time() -> float:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5
    ) as client:
        seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
