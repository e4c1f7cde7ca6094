"""``/metrics`` for Prometheus: what this web server does, and what the database tells of the rest.

Requests and sockets are counted by prometheus_client. Where several web processes share a port,
PROMETHEUS_MULTIPROC_DIR names a folder through which each of them answers for all.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

import prometheus_client
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from asynccoder.api.identity import account_of, is_staff
from asynccoder.api.shapes import MAYBE_SIGNED_IN
from asynccoder.lib import upcalls
from asynccoder.lib.errors import NotSignedIn

logger = logging.getLogger(__name__)

DATABASE_SECONDS = 1.5
CACHED_SECONDS = 5.0
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")

# When a counter began tells nobody anything, and would double the rows.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # theirs

REQUESTS = Counter(
    "asynccoder_requests", "Requests answered.", ["method", "route", "status"]
)  # fmt: skip
SECONDS = Histogram(
    "asynccoder_request_seconds", "Time until an answer begins.", ["method", "route"]
)
SOCKETS = Gauge("asynccoder_sockets_open", "Open sockets.", multiprocess_mode="livesum")


def count_request(request: HttpRequest, *, status: int, seconds: float) -> None:
    """Count a request under the route that served it, so that there are as many rows as routes."""
    method = request.method if request.method in METHODS else "other"
    route = _route(request)
    REQUESTS.labels(method, route, str(status)).inc()
    SECONDS.labels(method, route).observe(seconds)


def requests_here() -> int:
    """Return how many requests this process has answered."""
    samples = (sample for metric in REQUESTS.collect() for sample in metric.samples)
    return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))


class MayRead(BasePermission):
    """The holder of METRICS_TOKEN, staff, or without a token a program on this machine."""

    message = "Send METRICS_TOKEN as a bearer token, or ask from the machine itself."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if settings.METRICS_TOKEN:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if secrets.compare_digest(given.encode(), settings.METRICS_TOKEN.encode()):
                return True
        elif _is_local(request._request):
            return True
        account = account_of(request._request)
        if account is None:
            raise NotSignedIn(self.message)
        return is_staff(account)


class Metrics(APIView):
    """All metrics in the text format of Prometheus."""

    authentication_classes = ()
    permission_classes = (MayRead,)
    throttle_classes = ()

    @extend_schema(auth=MAYBE_SIGNED_IN, responses={(200, "text/plain"): str, 401: None, 403: None})
    def get(self, request: Request) -> HttpResponse:
        body = prometheus_client.generate_latest(_registry())
        return HttpResponse(body, content_type=prometheus_client.CONTENT_TYPE_LATEST)


class Database:
    """The platform's values in the database, read at most every CACHED_SECONDS, on a thread.

    Where they cannot be read in time there is a 0 that says so, and the rest is answered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = -CACHED_SECONDS
        self._answer: Future[list[Metric]] = Future()
        self._answer.set_result([])

    def collect(self) -> Iterable[Metric]:
        try:
            metrics = self._ask().result(DATABASE_SECONDS)
        except Exception as error:  # noqa: BLE001 # whatever is wrong with the database is the answer
            logger.warning("no metrics of the database: %s", type(error).__name__)
            metrics = []
        says = "1 when the values of the database could be read."
        yield GaugeMetricFamily("asynccoder_database_read", says, value=bool(metrics))
        yield from metrics

    def describe(self) -> Iterable[Metric]:
        """Promise nothing; prometheus_client would read the database to learn the names."""
        return ()

    def _ask(self) -> Future[list[Metric]]:
        with self._lock:
            is_old = time.monotonic() - self._asked_at >= CACHED_SECONDS
            # A question that hangs is not asked a second time.
            if is_old and self._answer.done():
                self._asked_at = time.monotonic()
                self._answer = Future()
                threading.Thread(target=self._read, args=[self._answer], daemon=True).start()
            return self._answer

    @staticmethod
    def _read(answer: Future[list[Metric]]) -> None:
        try:
            answer.set_result(upcalls.call("metrics", default=[]))
        except Exception as error:  # noqa: BLE001 # handed to whoever waits
            answer.set_exception(error)
        finally:
            connection.close()


DATABASE = Database()


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        _forget_dead(Path(folder))
        multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call] # theirs
    else:
        registry.register(prometheus_client.REGISTRY)
    registry.register(DATABASE)
    return registry


def _forget_dead(folder: Path) -> None:
    """Drop the open sockets of processes that are gone; what they counted stays."""
    for file in folder.glob("gauge_livesum_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call] # theirs


def _route(request: HttpRequest) -> str:
    if request.path_info.startswith(settings.STATIC_URL):
        return settings.STATIC_URL
    match = request.resolver_match
    # A regular expression is the catch-all that says 404, or one of the admin's.
    return f"/{match.route}" if match and not match.route.startswith("^") else "none"


def _is_local(request: HttpRequest) -> bool:
    """Tell whether a program on this machine asks, and not through a proxy on it."""
    if settings.NUM_PROXIES or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
