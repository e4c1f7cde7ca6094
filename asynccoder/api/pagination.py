"""Pages of a list: ``?page=&limit=`` in the envelope, ``?limit=&offset=`` in the plain dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from asynccoder.api.dialects import Dialect, Page, dialect_of

if TYPE_CHECKING:
    # DRF imports this module while it makes the class.
    from rest_framework.views import APIView

MAX_LIMIT = 100
MAX_NUMBER = 10**18 - 1
# What SQLite and PostgreSQL take as an OFFSET.
MAX_OFFSET = 2**31


class Pages(BasePagination):
    """The view names its list by ``plural`` and may change ``default_limit`` (20).

    A limit over 100 is cut to 100; a number that is none, or below its least, is refused.
    """

    view: APIView | None = None

    def paginate_queryset(  # type: ignore[override] # our lists are always querysets
        self, queryset: QuerySet[Any], request: Request, view: APIView | None = None
    ) -> list[Any]:
        self.plural: str = getattr(view, "plural", "results")
        default = getattr(view, "default_limit", 20)
        self.limit = min(_number(request, "limit", default=default, least=1), MAX_LIMIT)
        if dialect_of(request) is Dialect.ENVELOPE:
            self.offset = (_number(request, "page", default=1, least=1) - 1) * self.limit
        else:
            self.offset = _number(request, "offset", default=0, least=0)
        self.total = queryset.count()
        if self.offset >= self.total:
            return []
        return list(queryset[self.offset : self.offset + self.limit])

    def get_paginated_response(self, data: Any) -> Response:
        return Response(Page(self.plural, list(data), self.total, self.limit, self.offset))

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the plain page; ``x-page`` tells the document's hook what to put in an envelope."""
        plural = getattr(self.view, "plural", "results")
        number = {"type": "integer"}
        properties = {"total": number, "limit": number, "offset": number, plural: schema}
        page = {"type": "object", "properties": properties, "required": list(properties)}
        return page | {"x-page": plural}

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        default = getattr(view, "default_limit", 20)
        return [
            _parameter(
                "limit",
                f"How many, at most {MAX_LIMIT}.",
                minimum=1,
                default=default,
                maximum=MAX_NUMBER,
            ),
            _parameter(
                "offset", "How many to leave out.", minimum=0, default=0, maximum=MAX_NUMBER
            ),
        ]


def _parameter(name: str, description: str, **schema: int) -> dict[str, Any]:
    number = {"type": "integer", **schema}
    return {"name": name, "in": "query", "description": description, "schema": number}


def _number(request: Request, name: str, *, default: int, least: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) < least:
        raise ValidationError({name: [f"Give a whole number of at least {least}."]})
    return min(int(text), MAX_OFFSET)
