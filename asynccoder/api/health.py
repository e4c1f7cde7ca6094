"""Probes: what works now. They answer within two seconds, whatever hangs, and hold no secret."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import redis
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from asynccoder.api.dialects import iso
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


PROBES = {
    "database": Probe(_ask_database),
    "redis": Probe(_ask_redis),
    "queue": Probe(_ask_queue),
    "storage": Probe(_ask_storage),
}


def states(*names: str) -> dict[str, bool]:
    """Ask the named parts at once and tell which are well, within PROBE_SECONDS."""
    until = time.monotonic() + PROBE_SECONDS
    for name in names:
        PROBES[name].start()
    return {name: PROBES[name].is_well(until=until) for name in names}


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    found = states("database", "redis", "queue")
    is_well = all(found.values())
    body = {
        "status": "healthy" if is_well else "unhealthy",
        "timestamp": iso(datetime.now(UTC)),
        "services": {name: "healthy" if well else "unhealthy" for name, well in found.items()},
        "version": settings.VERSION,
        "environment": settings.ENVIRONMENT,
        "uptime": int(time.monotonic() - STARTED),
    }
    # Such as a sandbox that is switched off: loud here, in the log and in the admin.
    body |= upcalls.call("health_warnings", default={})
    return JsonResponse(body, status=200 if is_well else 503)


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    found = states("database", "redis", "storage")
    is_ready = all(found.values())
    services = {name: "connected" if well else "disconnected" for name, well in found.items()}
    body = {"status": "ready" if is_ready else "not_ready", "services": services}
    return JsonResponse(body, status=200 if is_ready else 503)


@require_safe
def basic(request: HttpRequest) -> JsonResponse:
    """Answer a load balancer: is the process able to serve what it is asked?"""
    is_well = all(states("database").values())
    body = {
        "status": "healthy" if is_well else "unhealthy",
        "timestamp": iso(datetime.now(UTC)),
        "version": settings.VERSION,
    }
    return JsonResponse(body, status=200 if is_well else 503)


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "alive", "timestamp": iso(datetime.now(UTC))})
