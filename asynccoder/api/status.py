"""What an operator's page asks for: the parts one by one, and figures of machine and queue."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import ERROR
from django.db import connection
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from asynccoder import checks
from asynccoder.api import metrics
from asynccoder.api.dialects import iso
from asynccoder.api.health import PROBE_SECONDS, Open, Probe, states, uptime, word
from asynccoder.api.identity import account_of, is_staff
from asynccoder.api.shapes import MAYBE_SIGNED_IN, STATES, shape
from asynccoder.lib import upcalls

STATUS = shape(
    "Status",
    status=serializers.ChoiceField(choices=["operational", "degraded"]),
    timestamp=serializers.DateTimeField(),
    version=serializers.CharField(),
    components=STATES,
    metrics=shape(
        "StatusMetrics",
        uptime_seconds=serializers.IntegerField(),
        requests_total=serializers.IntegerField(),
        requests_per_second=serializers.FloatField(),
        memory_percent=serializers.FloatField(allow_null=True),
        cpu_percent=serializers.FloatField(allow_null=True),
    ),
)
DETAILED = shape(
    "DetailedHealth",
    status=serializers.ChoiceField(choices=["healthy", "unhealthy"]),
    timestamp=serializers.DateTimeField(),
    version=serializers.CharField(),
    components=STATES,
    figures=serializers.DictField(
        child=serializers.DictField(child=serializers.FloatField()),
        required=False,
        help_text="For administrators.",
    ),
)


class Status(Open):
    """The state of the main parts, with figures. Requests are those of the process that answers, the rest the machine's."""

    @extend_schema(responses={200: STATUS, 503: STATUS})
    def get(self, request: Request) -> Response:
        found = {"api": True, **states("database", "cache"), "security": _is_secure()}
        is_well = all(found.values())
        requests, seconds = metrics.requests_here(), uptime()
        body = {
            "status": "operational" if is_well else "degraded",
            "timestamp": iso(datetime.now(UTC)),
            "version": settings.VERSION,
            "components": {name: word(well) for name, well in found.items()},
            "metrics": {
                "uptime_seconds": seconds,
                "requests_total": requests,
                "requests_per_second": round(requests / max(seconds, 1), 2),
                "memory_percent": memory_percent(),
                "cpu_percent": PROCESSOR.percent(),
            },
        }
        return Response(body, status=200 if is_well else 503)


class Detailed(Open):
    """Every part with its state; an administrator is also told the figures behind it."""

    @extend_schema(auth=MAYBE_SIGNED_IN, responses={200: DETAILED, 503: DETAILED})
    def get(self, request: Request) -> Response:
        until = time.monotonic() + PROBE_SECONDS
        FIGURES.probe.start()
        well = states("database", "cache", "queue", "disk")
        found = {name: word(is_well) for name, is_well in well.items()}
        figures = FIGURES.read(until=until)
        alive = figures.get("workers", {}).get("alive", 0)
        found["workers"] = word(alive > 0)
        # A worker that cannot make sandboxes does not start: one that is alive has proved it.
        found["sandbox"] = "healthy" if alive else "unknown"
        is_well = "unhealthy" not in found.values()
        body: dict[str, Any] = {
            "status": word(is_well),
            "timestamp": iso(datetime.now(UTC)),
            "version": settings.VERSION,
            "components": found,
        }
        if found["database"] == "healthy" and is_staff(account_of(request._request)):
            body["figures"] = {**figures, "disk": _room()}
        return Response(body, status=200 if is_well else 503)


class Figures:
    """The figures of queue and workers, asked on a thread, for no longer than a probe."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, float]] = {}
        self.probe = Probe(self._ask)

    def read(self, *, until: float) -> dict[str, dict[str, float]]:
        """Return them, or nothing where they cannot be read in time (on the monotonic clock)."""
        return dict(self._found) if self.probe.is_well(until=until) else {}

    def _ask(self) -> None:
        try:
            self._found = upcalls.call("figures", default={})
        finally:
            connection.close()


class Processor:
    """How busy the machine was between two looks, in percent of all its processors."""

    STAT = Path("/proc/stat")

    def __init__(self) -> None:
        self._last = self._look()

    def percent(self) -> float | None:
        """Return None where the system does not tell."""
        (busy, total), (busy_before, total_before) = self._look(), self._last
        if total - total_before >= os.sysconf("SC_CLK_TCK"):
            self._last = (busy, total)
        if not total:
            return None
        return round(100 * (busy - busy_before) / max(total - total_before, 1), 1)

    def _look(self) -> tuple[int, int]:
        if not self.STAT.exists():
            return 0, 0
        ticks = [int(word) for word in self.STAT.read_text().split("\n")[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


PROCESSOR = Processor()
FIGURES = Figures()


def memory_percent() -> float | None:
    """Return how much of the machine's memory is taken, or None where the system does not tell."""
    told = Path("/proc/meminfo")
    if not told.exists():
        return None
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in told.read_text().splitlines()}
    return round(100 * (1 - sizes["MemAvailable"] / sizes["MemTotal"]), 1)


@lru_cache(maxsize=1)
def _is_secure() -> bool:
    """Tell whether the instance's own security checks find no error; settings do not change."""
    found = [*checks.check_instance(None), *checks.check_production(None)]
    return all(message.level < ERROR for message in found)


def _room() -> dict[str, float]:
    """Return the figures of the disk, or nothing where it cannot be asked."""
    try:
        room = shutil.disk_usage(settings.VAR_DIR)
    except OSError:
        return {}
    return {"free_bytes": room.free, "used_percent": round(100 * room.used / room.total, 1)}
