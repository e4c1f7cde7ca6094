"""Rate limits (contract, section 5): counted on the shared cache, decided by the URL.

Every limit is an entry of settings.RATE_LIMITS, written as django-ratelimit does (``5/15m``).
Without the cache only authentication is limited (by this process alone); the rest is let through.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import redis
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django_ratelimit.core import get_usage
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from asynccoder.api.dialects import Dialect, dialect_of
from asynccoder.lib import bus, upcalls
from asynccoder.lib.errors import LimitReached

if TYPE_CHECKING:
    # DRF imports this module while it makes the class.
    from rest_framework.views import APIView

logger = logging.getLogger(__name__)

AUTHENTICATION_PATHS = frozenset(
    f"{prefix}/auth/{action}"
    for prefix in ("", "/api", "/api/v1")
    for action in ("login", "register")
)
TASK_PATHS = frozenset({"/api/tasks", "/api/v1/tasks", "/api/v1/execute", "/api/v1/execute/stream"})
WORK_PATHS = {"/api/build": "build", "/api/analysis": "analysis"}
RATE = re.compile(r"[1-9][0-9]*/([1-9][0-9]*)?[smhd]")
DEFAULT_PLAN = "free"
PLANLESS_RATE = "100/1h"
"""For accounts whose plan has no row: what the contract gives the free plan."""
UNCOUNTED_PREFIXES = ("/api/health", "/api/v1/health", "/api/webhooks")
"""Probes; and webhooks, which are counted when it is known who sends them: ``limit_webhook``."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit that applies to a request; ``key`` says whose counter it is."""

    scope: str
    rate: str
    key: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a counter says; ``reset`` is in Unix seconds."""

    limit: int
    remaining: int
    reset: int
    is_refused: bool


class Limits(BaseThrottle):
    """Counts the request against every limit of its route; the first refusal ends it."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        if not settings.RATELIMIT_ENABLE:
            return True
        _count_all(request, _limits_of(request))
        return True


def count_refused(request: Request, view: APIView) -> None:
    """Count a request that was refused before it was counted: raise LimitReached if it is too many.

    DRF looks at credentials and roles before it counts; without this, bad credentials would be free.
    They have counters of their own: expired tokens must not use up the room to refresh them.
    """
    is_counted = hasattr(request._request, "rate_usage")
    if is_counted or not settings.RATELIMIT_ENABLE or Limits not in view.throttle_classes:
        return
    if not hasattr(request, "_user"):
        # The credential was refused: nobody is behind it.
        request.user = AnonymousUser()
    try:
        limits = [_refused(request, limit) for limit in _limits_of(request)]
    except APIException:
        # Its body cannot be read, so it names no account.
        limits = _authentication(request._request, "")
    _count_all(request, limits)


def _refused(request: Request, limit: Limit) -> Limit:
    if request.user.is_authenticated or limit.scope.startswith("authentication"):
        return limit
    return replace(limit, scope=f"{limit.scope}_refused")


def _count_all(request: Request, limits: list[Limit]) -> None:
    """Count against each limit, and note whose numbers the headers show."""
    request._request.rate_usage = None  # type: ignore[attr-defined] # ours, for the headers
    for position, limit in enumerate(limits):
        usage = count(request._request, limit)
        if usage is not None and (position == 0 or usage.is_refused):
            request._request.rate_usage = usage  # type: ignore[attr-defined] # ours, for the headers
        _refuse(usage)


def limit_authentication(request: HttpRequest, account: str) -> None:
    """Count one try to sign in or up; raise LimitReached when there were too many."""
    for limit in _authentication(request, account):
        usage = count(request, limit)
        if limit.scope == "authentication" or (usage and usage.is_refused):
            request.rate_usage = usage  # type: ignore[attr-defined] # ours, for the headers
        _refuse(usage)


def limit_webhook(request: HttpRequest, hook: str) -> None:
    """Count a delivery against the hook that was proven to send it, without one against the address.

    Services send everybody's deliveries from the same few addresses. Raise LimitReached.
    """
    rate: str = settings.RATE_LIMITS["webhook"]
    known = Limit("webhook", rate, hook)
    unknown = Limit("webhook_refused", rate, client_address(request))
    usage = count(request, known if hook else unknown)
    request.rate_usage = usage  # type: ignore[attr-defined] # ours, for the headers
    _refuse(usage)


def headers(request: HttpRequest) -> dict[str, str]:
    """Return the limit headers of an answer; none where nothing was counted."""
    usage: Usage | None = getattr(request, "rate_usage", None)
    if usage is None:
        return {}
    reset = str(usage.reset)
    if dialect_of(request) is Dialect.ENVELOPE:
        reset = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(usage.reset))
    return {
        "X-RateLimit-Limit": str(usage.limit),
        "X-RateLimit-Remaining": str(usage.remaining),
        "X-RateLimit-Reset": reset,
    }


def client_address(request: HttpRequest) -> str:
    """Return the client's address as far as we trust it; an IPv6 client is its /64 network.

    With NUM_PROXIES proxies of ours in front, the address is the one that the outermost of them
    wrote; what a client puts before it is not believed.
    """
    remote = str(request.META.get("REMOTE_ADDR") or "")
    return trusted_address(remote, request.META.get("HTTP_X_FORWARDED_FOR", ""))


def trusted_address(address: str, forwarded: str) -> str:
    """Return the client's address from the peer's and the header X-Forwarded-For."""
    if settings.NUM_PROXIES:
        hops = [hop.strip() for hop in forwarded.split(",")]
        if len(hops) >= settings.NUM_PROXIES:
            address = hops[-settings.NUM_PROXIES]
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)


def count(request: HttpRequest, limit: Limit) -> Usage | None:
    """Count the request; return None where limits are off or cannot be counted."""
    if bus.is_hanging():
        return _count_here(limit)
    try:
        found = get_usage(
            request,
            group=limit.scope,
            key=lambda _group, _request: limit.key,
            rate=limit.rate,
            increment=True,
        )
    except (redis.RedisError, OSError) as error:
        logger.warning("rate limits are not counted: %s", type(error).__name__)
        bus.note_failure(error)
        return _count_here(limit)
    return None if found is None else _usage(found["count"], found["limit"], found["time_left"])


def _count_here(limit: Limit) -> Usage | None:
    """Count a try to sign in by this process alone, and nothing else."""
    return _local.count(limit) if limit.scope.startswith("authentication") else None


class LocalCounters:
    """Counters of this process, for the time that the shared cache is away."""

    MOST = 10_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[Limit, int], int] = {}

    def count(self, limit: Limit) -> Usage:
        allowed, period = _parsed(limit.rate)
        window, elapsed = divmod(int(time.time()), period)
        with self._lock:
            if len(self._counts) >= self.MOST:
                self._counts.clear()
            tries = self._counts.get((limit, window), 0) + 1
            self._counts[limit, window] = tries
        return _usage(tries, allowed, period - elapsed)


_local = LocalCounters()


def _limits_of(request: Request) -> list[Limit]:
    """Return the limits of a route, the general one of its row first."""
    path = request._request.path_info.rstrip("/")
    if path.startswith(UNCOUNTED_PREFIXES):
        return []
    if request.method == "POST" and path in AUTHENTICATION_PATHS:
        return _authentication(request._request, _account(request))
    limits = [_general(request, path)]
    if request.method == "POST":
        limits += _creation(request, path)
    return limits


def _authentication(request: HttpRequest, account: str) -> list[Limit]:
    """Return the limit per address and account, and the wider ones that hold for each alone."""
    address, account = client_address(request), account.strip().lower()[:254]
    rates: dict[str, str] = settings.RATE_LIMITS
    limits = [
        Limit("authentication", rates["authentication"], f"{address} {account}"),
        Limit("authentication_address", rates["authentication_address"], address),
    ]
    if account:
        rate = rates["authentication_account"]
        limits.append(Limit("authentication_account", rate, account))
    return limits


def _general(request: Request, path: str) -> Limit:
    rates: dict[str, Any] = settings.RATE_LIMITS
    who = _who(request)
    if path.startswith(tuple(WORK_PATHS)):
        return Limit("work", rates["work"], who)
    if path.startswith("/api/v1"):
        return Limit("plan", _plan_rate(request), who)
    if request.user.is_authenticated:
        return Limit("general", rates["general"], who)
    return Limit("anonymous", rates["anonymous"], who)


def _creation(request: Request, path: str) -> list[Limit]:
    rates: dict[str, str] = settings.RATE_LIMITS
    if path in TASK_PATHS:
        return [Limit("task_create", _task_rate(request), _who(request))]
    if path in WORK_PATHS:
        scope = f"{WORK_PATHS[path]}_create"
        return [Limit(scope, rates[scope], _who(request))]
    return []


def _plan_rate(request: Request) -> str:
    """Return the operator's rate of the account's plan, or else what the plan's row allows."""
    plan = getattr(request.user, "plan", DEFAULT_PLAN)
    given: str = settings.RATE_LIMITS["plans"].get(plan, "")
    if given:
        return given
    allowed = upcalls.call("plan_limits", plan)
    return f"{allowed.requests_per_hour}/1h" if allowed else PLANLESS_RATE


def _task_rate(request: Request) -> str:
    """Return the rate of new tasks; a plan may raise it, never lower it."""
    rate: str = settings.RATE_LIMITS["task_create"]
    allowed = upcalls.call("plan_limits", getattr(request.user, "plan", DEFAULT_PLAN))
    rates = [rate, f"{allowed.tasks_per_hour}/1h"] if allowed else [rate]
    return max(rates, key=_per_second)


def _per_second(rate: str) -> float:
    allowed, seconds = _parsed(rate)
    return allowed / seconds


def _who(request: Request) -> str:
    if request.user.is_authenticated:
        return str(request.user.pk)
    return client_address(request._request)


def _account(request: Request) -> str:
    """Return the account that the body names, as a key for counting.

    A foreign token names one only after it was verified; until then each counts for itself.
    """
    data: Any = request.data
    token = str(data.get("clerk_token") or "")
    if token:
        return f"token {hashlib.sha256(token.encode()).hexdigest()}"
    return str(data.get("email") or data.get("username") or "")


def _refuse(usage: Usage | None) -> None:
    if usage is not None and usage.is_refused:
        raise LimitReached(retry_after=max(1, usage.reset - int(time.time())))


def _usage(tries: int, allowed: int, time_left: int) -> Usage:
    return Usage(
        limit=allowed,
        remaining=max(0, allowed - tries),
        reset=int(time.time()) + max(0, time_left),
        is_refused=tries > allowed,
    )


def is_rate(rate: str) -> bool:
    """Tell whether the text is a rate: a count, then seconds, minutes, hours or days."""
    return RATE.fullmatch(rate) is not None


def _parsed(rate: str) -> tuple[int, int]:
    """Return count and seconds of a rate such as ``5/15m``."""
    allowed, _, period = rate.partition("/")
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}[period[-1]]
    return int(allowed), unit * int(period[:-1] or 1)
