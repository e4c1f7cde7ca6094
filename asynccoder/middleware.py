"""What every request passes: an id, a log line, an API path without its slash, security headers."""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.utils.encoding import escape_uri_path
from django.utils.functional import SimpleLazyObject

from asynccoder.api import limits, metrics
from asynccoder.api.dialects import Dialect, Problem, dialect_of, error_body, is_api, snake
from asynccoder.lib import logs
from asynccoder.lib.connections import let_go

GetResponse = Callable[[HttpRequest], HttpResponse]
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
PATH_CHARACTERS = 500
# Asked for again and again by machines: a line for each only where something is wrong.
QUIET = re.compile(r"/(health|ready|metrics|api/health(/.*)?|static/.*)/?")
logger = logging.getLogger("asynccoder.requests")


class Connection:
    """Closes the database's connection after a request that had a thread of its own (ASGI).

    Nobody comes to that thread again: kept for CONN_MAX_AGE, it would only be open until it is
    collected, one for every request.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if isinstance(request, ASGIRequest):
            let_go()
        return response


class RequestId:
    """Gives every request an id, in the logs and as X-Request-ID on the answer."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = id_of(request.headers.get("X-Request-ID", ""))
        # Not taken back at the end: Django itself may log the answer after this. The next request
        # of the thread sets its own.
        logs.request_id.set(request_id)
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        return response


def id_of(given: str) -> str:
    """Return the id that a client or proxy gave, if it is well formed, or a new one."""
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class RequestLog:
    """Writes one line a request, without the query: a token may stand in it.

    A streamed answer is logged when it begins.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        path = request.path
        response = self.get_response(request)
        seconds = time.perf_counter() - began
        metrics.count_request(request, status=response.status_code, seconds=seconds)
        is_quiet = response.status_code < 400 and QUIET.fullmatch(path)
        logs.write_request(
            logger,
            logging.DEBUG if is_quiet else logging.INFO,
            method=request.method or "",
            # Escaped: a line feed in an address must not begin a line of the log.
            path=escape_uri_path(path)[:PATH_CHARACTERS],
            status=response.status_code,
            milliseconds=round(seconds * 1000, 1),
            user_id=_user_id(request),
            address=limits.client_address(request),
        )
        return response


class SocketLog:
    """Gives every socket an id in the logs, and writes one line when it ends (ASGI)."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        began, code = time.perf_counter(), 1006

        async def heard() -> dict[str, Any]:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code", code)
            return message

        async def said(message: dict[str, Any]) -> None:
            nonlocal code
            if message["type"] == "websocket.close":
                code = message.get("code", 1000)
            await send(message)

        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        logs.request_id.set(id_of(headers.get(b"x-request-id", "")))
        metrics.SOCKETS.inc()
        try:
            await self.application(scope, heard, said)
        finally:
            metrics.SOCKETS.dec()
            logs.write_request(
                logger,
                logging.INFO,
                method="SOCKET",
                path=escape_uri_path(scope["path"])[:PATH_CHARACTERS],
                status=code,
                milliseconds=round((time.perf_counter() - began) * 1000, 1),
                user_id=logs.user_id.get(),
                address=limits.trusted_address(
                    (scope.get("client") or [""])[0], headers.get(b"x-forwarded-for", "")
                ),
            )


class ApiRequest:
    """Makes the trailing slash of API paths optional and the query's names ours.

    There is no redirect: it would drop the body of a POST. In the envelope dialect
    ``?repositoryId=`` reaches the view as ``repository_id``.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not is_api(request.path_info):
            return self.get_response(request)
        if len(request.path_info) > 1 and request.path_info.endswith("/"):
            request.path_info = request.path_info[:-1]
            request.path = request.path.removesuffix("/")
        problem = _problem(request)
        if problem is not None:
            return JsonResponse(error_body(request, problem), status=problem.status)
        if dialect_of(request) is Dialect.ENVELOPE:
            request.GET = _recased(request.GET)  # type: ignore[assignment] # the stubs name a private subclass
        response = self.get_response(request)
        for name, value in limits.headers(request).items():
            response[name] = value
        return response


def _problem(request: HttpRequest) -> Problem | None:
    """Return why no view could read the request, or None."""
    if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
        return Problem("VALIDATION_ERROR", "The address holds a NUL character.", 400)
    if "Transfer-Encoding" in request.headers and not request.META.get("CONTENT_LENGTH"):
        return _measure(request)
    return None


def _measure(request: HttpRequest) -> Problem | None:
    """Give a body that came in chunks its length; without one it would be taken for empty.

    Under ASGI Django has read it into a file; under WSGI it does not read it.
    """
    if not isinstance(request, ASGIRequest):
        return Problem("VALIDATION_ERROR", "Send the body with its Content-Length.", 411)
    body = request._stream
    request.META["CONTENT_LENGTH"] = str(body.seek(0, os.SEEK_END))
    body.seek(0)
    return None


class SecurityHeaders:
    """Adds the Content-Security-Policy and its company to every answer."""

    PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", _policy(request))
        response.headers.setdefault("Permissions-Policy", self.PERMISSIONS)
        if is_api(request.path_info):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def _user_id(request: HttpRequest) -> str:
    """Return the id of whoever the request was served as; nobody is looked up for it."""
    user = getattr(request, "user", None)
    if isinstance(user, SimpleLazyObject):
        # Nothing has asked who it is, unless it is kept here.
        user = getattr(request, "_cached_user", None)
    return str(getattr(user, "pk", None) or "")


def _recased(query: QueryDict) -> QueryDict:
    recased = QueryDict(mutable=True)
    for name, values in query.lists():
        recased.setlist(snake(name), [*recased.getlist(snake(name)), *values])
    return recased


def _policy(request: HttpRequest) -> str:
    # Chromium lets 'self' cover the socket; older Safari wants the host by name.
    try:
        socket = f" {'wss' if settings.IS_HTTPS else 'ws'}://{request.get_host()}"
    except DisallowedHost:
        socket = ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"font-src 'self'; connect-src 'self'{socket}; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; manifest-src 'self'"
    )
