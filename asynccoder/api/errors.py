"""Every error of the API, in the dialect of its route: DRF's, ours and Django's own."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import singledispatch
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from django_ratelimit.exceptions import Ratelimited
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from asynccoder.api import limits
from asynccoder.api.dialects import Problem, error_body, is_api
from asynccoder.lib.errors import AppError, LimitReached

logger = logging.getLogger(__name__)

GENERIC = "Something went wrong on our side; it was logged."
CODES = {
    400: "VALIDATION_ERROR",
    401: "UNAUTHORIZED",
    402: "INSUFFICIENT_CREDITS",
    403: "FORBIDDEN",
    404: "RESOURCE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "VALIDATION_ERROR",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
}
# Seed 2 answers 422 there when the JSON is well formed and a value is refused.
UNPROCESSABLE_PREFIXES = ("/api/build", "/api/analysis")


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """Answer any exception of a view; what is not known is our bug: logged, generic text shown."""
    request = context["request"]
    problem = problem_of(error)
    if problem.status < 500:
        try:
            limits.count_refused(request, context["view"])
        except LimitReached as reached:
            problem = problem_of(reached)
    if _is_refused_value(error, problem) and request.path.startswith(UNPROCESSABLE_PREFIXES):
        problem = replace(problem, status=422)
    set_rollback()
    return Response(
        error_body(request, problem), status=problem.status, headers=headers_of(problem)
    )


def _is_refused_value(error: Exception, problem: Problem) -> bool:
    """Tell whether the request was well formed, and a value in it is what was refused."""
    return problem.status == 400 and isinstance(error, exceptions.ValidationError | AppError)


def headers_of(problem: Problem) -> dict[str, str]:
    headers = {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="api"'
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    return headers


@singledispatch
def problem_of(error: BaseException) -> Problem:
    """Translate an exception; the fallback logs it with its traceback."""
    logger.error("unhandled error in a view", exc_info=error)
    return Problem(CODES[500], GENERIC, 500)


@problem_of.register
def _(error: AppError) -> Problem:
    wait = getattr(error, "retry_after", None)
    retry_after = None if wait is None else max(1, math.ceil(wait))
    return Problem(error.code, error.message, error.status, error.details, retry_after)


@problem_of.register
def _(error: exceptions.APIException) -> Problem:
    code = CODES.get(error.status_code, CODES[400])
    return Problem(code, str(error.detail), error.status_code)


@problem_of.register
def _(error: exceptions.Throttled) -> Problem:
    retry_after = max(1, math.ceil(getattr(error, "wait", None) or 1))
    return Problem(CODES[429], "Too many requests.", 429, {}, retry_after)


@problem_of.register
def _(error: exceptions.ValidationError) -> Problem:
    detail = error.detail
    details = detail if isinstance(detail, dict) else {"non_field_errors": detail}
    return Problem(CODES[400], _first_message(details), 400, details)


@problem_of.register
def _(error: ModelValidationError) -> Problem:
    details = (
        error.message_dict if hasattr(error, "error_dict") else {"non_field_errors": error.messages}
    )
    return Problem(CODES[400], _first_message(details), 400, details)


@problem_of.register
def _(error: Ratelimited) -> Problem:
    # django-ratelimit's decorator says 403 for a limit.
    return Problem(CODES[429], "Too many requests.", 429, {}, 1)


@problem_of.register(exceptions.NotAuthenticated)
@problem_of.register(exceptions.AuthenticationFailed)
def _(error: exceptions.APIException) -> Problem:
    # DRF turns these into 403 where a view has no authenticator with a header.
    return Problem(CODES[401], str(error.detail), 401)


@problem_of.register
def _(error: Http404) -> Problem:
    return Problem(CODES[404], "There is no such thing.", 404)


@problem_of.register
def _(error: PermissionDenied) -> Problem:
    return Problem(CODES[403], "You may not do this.", 403)


@problem_of.register
def _(error: RequestDataTooBig) -> Problem:
    return Problem(CODES[413], "The body is too large.", 413)


@problem_of.register
def _(error: SuspiciousOperation) -> Problem:
    return Problem(CODES[400], "The request is malformed.", 400)


@problem_of.register
def _(error: IntegrityError) -> Problem:
    logger.warning("a constraint of the database refused a request", exc_info=error)
    return Problem(CODES[409], "This does not fit what is already stored.", 409)


@problem_of.register
def _(error: DataError) -> Problem:
    logger.warning("the database refused a value", exc_info=error)
    return Problem(CODES[400], "A value does not fit its field.", 400)


@problem_of.register(OperationalError)
@problem_of.register(InterfaceError)
def _(error: Exception) -> Problem:
    logger.error("the database is not available", exc_info=error)
    return Problem(CODES[503], "The database is busy or away; try again.", 503, {}, 1)


def _first_message(details: Any, name: str = "") -> str:
    """Return the first message of nested details, with the field that it speaks of."""
    while isinstance(details, dict | list):
        if not details:
            return "The request is not valid."
        if isinstance(details, dict):
            key, details = next(iter(details.items()))
            name = str(key)
        else:
            details = details[0]
    return str(details) if name in ("", "non_field_errors") else f"{name}: {details}"


# --- Errors that Django itself answers: no route, a bad host, a crash outside of DRF ------------
def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    status = 413 if isinstance(exception, RequestDataTooBig) else 400
    return _answer(request, status) or defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    status = 429 if isinstance(exception, Ratelimited) else 403
    return _answer(request, status) or defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return _answer(request, 404) or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    return _answer(request, 500) or defaults.server_error(request)


@csrf_exempt
def no_route(request: HttpRequest, **_: str) -> HttpResponse:
    """Answer 404 for every path under /api that nothing else serves, in DEBUG too."""
    return _json(request, 404)


def _answer(request: HttpRequest, status: int) -> HttpResponse | None:
    return _json(request, status) if is_api(request.path_info) else None


def _json(request: HttpRequest, status: int) -> HttpResponse:
    message = GENERIC if status == 500 else HTTPStatus(status).phrase
    problem = Problem(CODES[status], message, status, retry_after=1 if status == 429 else None)
    return JsonResponse(error_body(request, problem), status=status, headers=headers_of(problem))
