"""JSON has types: a number is no text, and a text no number, whatever could be made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

if TYPE_CHECKING:
    Base = serializers.Serializer[Any]
else:
    Base = object

TEXTS = (
    serializers.CharField,
    serializers.UUIDField,
    serializers.DateTimeField,
    serializers.DateField,
    serializers.ChoiceField,
)


class Typed(Base):
    """The first base of a serializer that reads a body; those that read a query have texts only."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            wrong = {
                name: [field.error_messages.get("invalid", "This has another type.")]
                for name, field in self.fields.items()
                if name in data and not field.read_only and not _fits(field, data[name])
            }
            if wrong:
                raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)


def _fits(field: Any, value: Any) -> bool:
    """Tell whether a JSON value has the field's type; null and what is nested is the field's matter."""
    if value is None:
        return True
    if isinstance(field, serializers.MultipleChoiceField):
        return isinstance(value, list)
    if isinstance(field, serializers.ListField):
        return isinstance(value, list) and all(_fits(field.child, item) for item in value)
    if isinstance(field, TEXTS):
        return isinstance(value, str)
    if isinstance(field, serializers.BooleanField):
        return isinstance(value, bool)
    if isinstance(field, serializers.IntegerField):
        return not isinstance(value, bool | str)
    return True
