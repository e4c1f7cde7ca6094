"""Reading a tool call's arguments: they are whatever a model wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 2_000_000
LONGEST_STRING = 1_000_000
DEEPEST = 20
MOST_ITEMS = 1_000


class BadArguments(Exception):
    """The arguments do not fit the tool; the message tells the model what to change."""


def read_arguments(raw: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments that fit the schema. Raises BadArguments.

    Names that the schema does not know are dropped, null counts as absent, and a number or list
    written as a string is taken as what it says: models do both.
    """
    if len(raw) > LONGEST:
        raise BadArguments(f"The arguments are longer than {LONGEST:,} characters.")
    try:
        value = json.loads(raw or "{}")
    except (ValueError, RecursionError) as error:
        raise BadArguments(f"The arguments are not valid JSON ({error}): {raw[:300]}") from None
    try:
        fitted = _fit(value, {"type": "object", **schema}, "arguments", DEEPEST)
    except RecursionError:
        raise BadArguments("The arguments are nested too deeply.") from None
    assert isinstance(fitted, dict)  # noqa: S101 - _fit has just made sure
    return fitted


def _fit(value: Any, schema: Mapping[str, Any], name: str, depth: int) -> Any:
    if depth == 0:
        raise BadArguments(f"{name} is nested too deeply.")
    kind = schema.get("type", "string")
    fitted = FITTERS[kind](_coerced(value, kind), schema, name, depth)
    if "enum" in schema and fitted not in schema["enum"]:
        choices = ", ".join(map(str, schema["enum"]))
        raise BadArguments(f"{name} must be one of: {choices}.")
    return fitted


def _coerced(value: Any, kind: str) -> Any:
    """Return what a string says where another type is asked for; anything else as it is."""
    if not isinstance(value, str) or kind == "string" or len(value) > LONGEST_STRING:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _string(value: Any, schema: Mapping[str, Any], name: str, depth: int) -> str:
    if not isinstance(value, str):
        raise BadArguments(f"{name} must be a string.")
    limit = schema.get("maxLength", LONGEST_STRING)
    if len(value) > limit:
        raise BadArguments(f"{name} is longer than {limit:,} characters.")
    if "\0" in value:
        raise BadArguments(f"{name} must not contain NUL characters.")
    if len(value.strip()) < schema.get("minLength", 0):
        raise BadArguments(f"{name} must not be empty or that short.")
    return value.encode("utf-8", "replace").decode("utf-8")


def _integer(value: Any, schema: Mapping[str, Any], name: str, depth: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadArguments(f"{name} must be a whole number.")
    low, high = schema.get("minimum", -(10**9)), schema.get("maximum", 10**9)
    if not low <= value <= high:
        raise BadArguments(f"{name} must be between {low} and {high}.")
    return value


def _boolean(value: Any, schema: Mapping[str, Any], name: str, depth: int) -> bool:
    if not isinstance(value, bool):
        raise BadArguments(f"{name} must be true or false.")
    return value


def _array(value: Any, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
    if not isinstance(value, list):
        raise BadArguments(f"{name} must be a list.")
    limit = schema.get("maxItems", MOST_ITEMS)
    if len(value) > limit:
        raise BadArguments(f"{name} has {len(value)} items; at most {limit} are taken.")
    if len(value) < schema.get("minItems", 0):
        raise BadArguments(f"{name} needs at least {schema['minItems']} items.")
    items = schema.get("items", {"type": "string"})
    return [_fit(item, items, f"{name}[{i}]", depth - 1) for i, item in enumerate(value)]


def _object(value: Any, schema: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadArguments(f"{name} must be an object.")
    known: Mapping[str, Any] = schema.get("properties", {})
    missing = missing_fields(value, schema.get("required", ()))
    if missing:
        raise BadArguments(f"{name} lacks: {', '.join(missing)}.")
    return {
        field: _fit(
            value[field], known[field], field if depth == DEEPEST else f"{name}.{field}", depth - 1
        )
        for field in known
        if value.get(field) is not None
    }


def missing_fields(value: Mapping[str, Any], required: Sequence[str]) -> list[str]:
    return [name for name in required if value.get(name) is None]


FITTERS = {
    "string": _string,
    "integer": _integer,
    "boolean": _boolean,
    "array": _array,
    "object": _object,
}
