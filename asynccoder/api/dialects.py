"""How data is put on the wire, decided by the URL, in this place only (contract, section 1).

Views return plain snake_case data. Under most of ``/api/`` it travels in the envelope with camelCase
keys; under ``/api/v1/`` and the other plain prefixes as it is. Where two clients share a path the
body that was sent decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import IO, Any

from django.conf import settings
from django.http import HttpRequest, QueryDict
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser, FormParser, JSONParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from asynccoder.lib.errors import TooLarge

JSON_MAX_DEPTH = 64
API_PREFIXES = (
    "/api", "/auth", "/health", "/ready", "/metrics", "/openapi.json", "/openapi.yaml", "/docs",
)  # fmt: skip
PLAIN_PREFIXES = (
    "/api/v1",
    "/api/build",
    "/api/analysis",
    "/api/chat",
    "/api/files",
    "/api/health",
    "/api/auth/register",
)
# Paths of two clients: these keys in a body, and none of the other client's, mean the plain one.
PLAIN_BODIES = {
    "/api/auth/login": frozenset({"email", "username", "password"}),
    "/api/auth/refresh": frozenset({"refresh_token"}),
}
ENVELOPE_KEYS = frozenset({"clerkToken", "refreshToken"})
# Paths of two clients with one body: these fields stand beside ``success`` and ``data`` too.
BESIDE_DATA = {
    "/api/auth/logout": ("message",),
    "/api/users/me": ("id", "email", "name", "created_at", "updated_at"),
}
FOREIGN_KEYS = frozenset({"parameters", "context", "github_user", "githubUser"})

_SNAKE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_CAMEL = re.compile(r"[a-z][a-z0-9]*(?:[A-Z][a-z0-9]*)+")


class Dialect(Enum):
    ENVELOPE = "envelope"
    PLAIN = "plain"


class Foreign(dict[str, Any]):
    """An object from outside: its keys are not ours to recase."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; ``page`` counts from 1, ``offset`` from 0."""

    plural: str
    items: list[Any]
    total: int
    limit: int
    offset: int

    @property
    def page(self) -> int:
        return self.offset // self.limit + 1

    @property
    def pages(self) -> int:
        return -(-self.total // self.limit)


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, before it is put on the wire; every text in it may be shown."""

    code: str
    message: str
    status: int
    details: Mapping[str, Any] = field(default_factory=dict)
    retry_after: int | None = None


def is_api(path: str) -> bool:
    return _is_under(path, API_PREFIXES)


def dialect_of(request: Request | HttpRequest) -> Dialect:
    """Return the dialect of the answer; on a shared path, that of the body once it is read."""
    http = _http(request)
    path = http.path_info.rstrip("/")
    if path in PLAIN_BODIES:
        return getattr(http, "body_dialect", Dialect.ENVELOPE)
    return dialect_of_path(path)


def dialect_of_path(path: str) -> Dialect:
    """Return the dialect of an address; of one of PLAIN_BODIES, that without a body."""
    if not _is_under(path, ("/api",)) or _is_under(path, PLAIN_PREFIXES):
        return Dialect.PLAIN
    return Dialect.ENVELOPE


def camelised(value: Any) -> Any:
    """Return the value with our own snake_case keys in camelCase."""
    return _recased(value, camel)


def snakelised(value: Any) -> Any:
    """Return the value with camelCase keys in snake_case; refuse a name given in both."""
    return _recased(value, snake)


def camel(name: str) -> str:
    if not _SNAKE.fullmatch(name):
        return name
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def snake(name: str) -> str:
    if not _CAMEL.fullmatch(name):
        return name
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)


def error_body(request: Request | HttpRequest, problem: Problem) -> dict[str, Any]:
    """Return the body of an error in the request's dialect."""
    if dialect_of(request) is Dialect.ENVELOPE:
        error = {"code": problem.code, "message": problem.message, "details": problem.details}
        return {"success": False, "error": camelised(error)}
    body = {
        "error": problem.code.lower(),
        "message": problem.message,
        "detail": problem.message,
        "code": problem.code,
        "details": problem.details,
        "status_code": problem.status,
        "timestamp": iso(datetime.now(UTC)),
    }
    if problem.status == 429:
        body["retry_after"] = problem.retry_after
    return body


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with seconds, as ``2026-02-03T10:30:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class DialectRenderer(JSONRenderer):
    """Puts a view's plain data on the wire in the dialect of the route."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        context = dict(renderer_context or {})
        response, request = context.get("response"), context.get("request")
        if response is None or request is None or response.status_code == 204:
            return bytes(super().render(data, accepted_media_type, context))
        # The body of an error is on the wire already: the exception handler made it.
        if not response.exception:
            data = _success_body(request, response, data)
        return bytes(super().render(data, accepted_media_type, context))


class JSONBody(JSONParser):
    """Reads a JSON object in the dialect of the route."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        request: Request = dict(parser_context or {})["request"]
        return _understood(request, _object(_bytes(stream, request)))


class FormBody(FormParser):
    """Reads a form (``application/x-www-form-urlencoded``) like a flat JSON object."""

    def parse(  # type: ignore[override] # ours is a plain dict, like that of JSON
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        request: Request = dict(parser_context or {})["request"]
        fields = QueryDict(_bytes(stream, request), encoding="utf-8")
        data = {name: str(value) for name, value in fields.items()}
        _refuse_unstorable(data)
        return _understood(request, data)


class AlwaysJSON(BaseContentNegotiation):
    """Answers in JSON whatever ``Accept`` says; reads what the content type names."""

    def select_parser(self, request: Request, parsers: list[BaseParser]) -> BaseParser | None:  # type: ignore[override] # the stubs want a Sequence of one type
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(  # type: ignore[override] # the stubs want a Sequence of one type
        self, request: Request, renderers: list[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], str(renderers[0].media_type)


def _success_body(request: Request, response: Response, data: Any) -> Any:
    if dialect_of(request) is Dialect.PLAIN:
        return _plain_page(data) if isinstance(data, Page) else data
    body: dict[str, Any] = {"success": True}
    if isinstance(data, Page):
        paging = {"page": data.page, "limit": data.limit, "total": data.total}
        # Seed 0 repeats the numbers beside its transactions; every list does.
        body["data"] = {data.plural: data.items, "total": data.total} | paging
        body["meta"] = paging | {"total_pages": data.pages}
    else:
        beside = BESIDE_DATA.get(_http(request).path_info.rstrip("/"), ())
        body["data"] = data
        body = {name: data[name] for name in beside if name in data} | body
        return {name: camelised(value) for name, value in body.items()}
    return camelised(body)


def _plain_page(page: Page) -> dict[str, Any]:
    return {
        "total": page.total,
        "limit": page.limit,
        "offset": page.offset,
        page.plural: page.items,
    }


def _understood(request: Request, data: dict[str, Any]) -> dict[str, Any]:
    """Note the dialect of the body on the request, and return it in snake_case."""
    http = _http(request)
    plain_keys = PLAIN_BODIES.get(http.path_info.rstrip("/"))
    if plain_keys is not None:
        is_plain = bool(plain_keys & data.keys()) and not ENVELOPE_KEYS & data.keys()
        http.body_dialect = Dialect.PLAIN if is_plain else Dialect.ENVELOPE  # type: ignore[attr-defined] # ours
    if dialect_of(request) is Dialect.PLAIN:
        return data
    return dict(snakelised(data))


def _bytes(stream: IO[Any], request: Request) -> bytes:
    """Read the whole body; raise TooLarge beyond REQUEST_MAX_BYTES."""
    limit: int = settings.REQUEST_MAX_BYTES
    if int(_http(request).META.get("CONTENT_LENGTH") or 0) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    return body


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ParseError("The body is not valid JSON.") from error
    if not isinstance(data, dict):
        raise ParseError("The body must be a JSON object.")
    _refuse_unstorable(data)
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def _refuse_unstorable(data: dict[str, Any]) -> None:
    """Refuse what no database column takes: NUL, half of a surrogate pair, endless nesting."""
    level: list[Any] = [data]
    for _ in range(JSON_MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _refuse_text(value)
            elif isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                below += value
        if not below:
            return
        level = below
    raise ParseError(f"The body is nested more than {JSON_MAX_DEPTH} levels deep.")


def _refuse_text(text: str) -> None:
    if "\0" in text:
        raise ParseError("A text in the body holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ParseError("A text in the body is not valid Unicode.") from error


def _recased(value: Any, recase: Callable[[str], str]) -> Any:
    if isinstance(value, Foreign):
        return value
    if isinstance(value, Mapping):
        return _recased_mapping(value, recase)
    if isinstance(value, list | tuple):
        return [_recased(item, recase) for item in value]
    return value


def _recased_mapping(value: Mapping[Any, Any], recase: Callable[[str], str]) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for key, item in value.items():
        name = recase(str(key))
        if name in renamed:
            raise ParseError(f"{name} is given twice.")
        renamed[name] = item if key in FOREIGN_KEYS else _recased(item, recase)
    return renamed


def _is_under(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def _http(request: Request | HttpRequest) -> HttpRequest:
    return request._request if isinstance(request, Request) else request
