"""Shapes of answers that no serializer makes, for the OpenAPI document alone."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers

Field = serializers.Field[Any, Any, Any, Any]


def shape(name: str, /, **fields: Field | type[serializers.BaseSerializer[Any]]) -> Any:
    """Return the serializer of an object with these fields, every one of them always there."""
    made = {field: kind() if isinstance(kind, type) else kind for field, kind in fields.items()}
    return inline_serializer(name, fields=made)


def words(name: str, /, *fields: str) -> Any:
    """Return the serializer of an object of texts."""
    return shape(name, **{field: serializers.CharField() for field in fields})


def many(one: Any) -> Any:
    """Return the serializer of a list of such objects."""
    return serializers.ListField(child=one)


SIGNED_IN: list[dict[str, list[str]]] = [{"bearer": []}, {"accessKey": []}, {"session": []}]
"""The ways to sign in, by the names that they have in the document."""
MAYBE_SIGNED_IN: Any = [{}, *SIGNED_IN]
MESSAGE = words("Message", "message")
STATES = serializers.DictField(child=serializers.CharField())
