"""What every request passes: an id, an API path without its slash, and the security headers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict

from asynccoder.api import limits
from asynccoder.api.dialects import Dialect, Problem, dialect_of, error_body, is_api, snake
from asynccoder.lib import logs

GetResponse = Callable[[HttpRequest], HttpResponse]
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


class RequestId:
    """Gives every request an id, in the logs and as X-Request-ID on the answer."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        token = logs.request_id.set(request_id)
        try:
            response = self.get_response(request)
        finally:
            logs.request_id.reset(token)
        response["X-Request-ID"] = request_id
        return response


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
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            problem = Problem("VALIDATION_ERROR", "The address holds a NUL character.", 400)
            return JsonResponse(error_body(request, problem), status=400)
        if dialect_of(request) is Dialect.ENVELOPE:
            request.GET = _recased(request.GET)  # type: ignore[assignment] # the stubs name a private subclass
        response = self.get_response(request)
        for name, value in limits.headers(request).items():
            response[name] = value
        return response


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
