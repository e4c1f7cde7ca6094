"""Probes: what works now. They answer within two seconds, whatever hangs, and hold no secret."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from asynccoder.api.dialects import iso
from asynccoder.api.shapes import STATES, shape, words
from asynccoder.lib import upcalls

PROBE_SECONDS = 1.5
STARTED = time.monotonic()


class Probe:
    """Asks one part, on a thread, so that a part that hangs costs the answer no more time."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None
        self._answer = False

    def start(self) -> threading.Thread:
        """Start asking; while an earlier question still hangs, wait for that one instead."""
        with self._lock:
            if self._running is None or not self._running.is_alive():
                self._answer = False
                self._running = threading.Thread(target=self._run, daemon=True)
                self._running.start()
            return self._running

    def is_well(self, *, until: float) -> bool:
        """Tell whether the part answered in time (``until`` is on the monotonic clock)."""
        running = self.start()
        running.join(max(0, until - time.monotonic()))
        return self._answer and not running.is_alive()

    def _run(self) -> None:
        try:
            self._ask()
            self._answer = True
        except Exception:  # noqa: BLE001 # whatever is wrong with the part is the answer
            self._answer = False


def _ask_database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


def _ask_redis() -> None:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1
    ) as client:
        client.ping()


def _ask_queue() -> None:
    """Ask whoever owns the queue; it raises when no work would be done."""
    _ask_redis()
    upcalls.call("queue_health")


def _ask_storage() -> None:
    if not os.access(settings.VAR_DIR, os.W_OK):
        raise PermissionError(settings.VAR_DIR)


def _ask_disk() -> None:
    """Raise when there is no room left for one run, as the doctor sees it."""
    if shutil.disk_usage(settings.VAR_DIR).free < settings.SANDBOX_DISK_BYTES:
        raise OSError(errno.ENOSPC, "too little room")


def _ask_cache() -> None:
    cache.set("health", 1, 10)
    if cache.get("health") != 1:
        raise OSError("the cache forgets")


PROBES = {
    "database": Probe(_ask_database),
    "redis": Probe(_ask_redis),
    "queue": Probe(_ask_queue),
    "storage": Probe(_ask_storage),
    "disk": Probe(_ask_disk),
    "cache": Probe(_ask_cache),
}


def states(*names: str) -> dict[str, bool]:
    """Ask the named parts at once and tell which are well, within PROBE_SECONDS."""
    until = time.monotonic() + PROBE_SECONDS
    for name in names:
        PROBES[name].start()
    return {name: PROBES[name].is_well(until=until) for name in names}


HEALTH = shape(
    "Health",
    status=serializers.CharField(),
    timestamp=serializers.DateTimeField(),
    services=STATES,
    version=serializers.CharField(),
    environment=serializers.CharField(),
    uptime=serializers.IntegerField(help_text="Seconds."),
)
READY = shape("Ready", status=serializers.CharField(), services=STATES)
BASIC = words("BasicHealth", "status", "timestamp", "version")


class Open(APIView):
    """A probe: for everybody, never limited, nobody is looked up."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()


class Health(Open):
    """The state of database, Redis and queue."""

    @extend_schema(responses={200: HEALTH, 503: HEALTH})
    def get(self, request: Request) -> Response:
        found = states("database", "redis", "queue")
        is_well = all(found.values())
        body = {
            "status": word(is_well),
            "timestamp": iso(datetime.now(UTC)),
            "services": {name: word(well) for name, well in found.items()},
            "version": settings.VERSION,
            "environment": settings.ENVIRONMENT,
            "uptime": uptime(),
        }
        # Such as a sandbox that is switched off: loud here, in the log and in the admin.
        body |= upcalls.call("health_warnings", default={})
        return Response(body, status=200 if is_well else 503)


class Ready(Open):
    """Whether requests can be served."""

    @extend_schema(responses={200: READY, 503: READY})
    def get(self, request: Request) -> Response:
        found = states("database", "redis", "storage")
        is_ready = all(found.values())
        services = {name: "connected" if well else "disconnected" for name, well in found.items()}
        body = {"status": "ready" if is_ready else "not_ready", "services": services}
        return Response(body, status=200 if is_ready else 503)


class Basic(Open):
    """For a load balancer: is the process able to serve what it is asked?"""

    @extend_schema(responses={200: BASIC, 503: BASIC})
    def get(self, request: Request) -> Response:
        is_well = all(states("database").values())
        body = {
            "status": word(is_well),
            "timestamp": iso(datetime.now(UTC)),
            "version": settings.VERSION,
        }
        return Response(body, status=200 if is_well else 503)


class Live(Open):
    """That the process answers at all."""

    @extend_schema(responses=words("Live", "status", "timestamp"))
    def get(self, request: Request) -> Response:
        return Response({"status": "alive", "timestamp": iso(datetime.now(UTC))})


def word(is_well: bool) -> str:  # noqa: FBT001 # one argument, which the name explains
    return "healthy" if is_well else "unhealthy"


def uptime() -> int:
    """Return for how many seconds this process has run."""
    return int(time.monotonic() - STARTED)
