"""Examples for the OpenAPI document, made from its schemas, so that each fits what it stands beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asynccoder.api.dialects import snake

Schema = Mapping[str, Any]

UUID = "550e8400-e29b-41d4-a716-446655440000"
MOMENT = "2026-02-03T10:30:00Z"
COMMIT = "3f786850e387550fdaadf8a2e3d9fba1b2c3d4e5"
TEXTS = {
    "access_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
    "analysis_id": UUID,
    "base_url": "https://models.example.com/v1",
    "branch": "main",
    "cached_input_price": "0.0000003",
    "clerk_token": "a session token of Clerk",
    "clone_url": "https://github.com/alice/ledgerly.git",
    "code": "the code that GitHub sent",
    "command": "pytest -q",
    "commit": COMMIT,
    "base_commit": COMMIT,
    "head_commit": COMMIT,
    "created_by": "alice",
    "current_step": "Running the checks",
    "default_branch": "main",
    "description": "Users are signed out after a minute.",
    "display_name": "Alice",
    "email": "alice@example.com",
    "full_name": "alice/ledgerly",
    "goal": "Add authentication module with JWT support",
    "input_price": "0.000003",
    "key": "a key that is shown once",
    "language": "Python",
    "message": "Done.",
    "name": "ledgerly",
    "output_price": "0.000015",
    "password": "correct horse battery",
    "path": "ledgerly/dates.py",
    "performed_by": "alice",
    "project_name": "my-project",
    "prompt": "Find and fix the bug in the login component",
    "refresh_token": "the refresh token of the last sign-in",
    "setup_command": "pip install -r requirements.txt",
    "title": "Fix authentication bug",
    "token": "a token",
    "token_type": "bearer",
    "url": "https://github.com/alice/ledgerly",
    "username": "alice",
    "version": "0.1.0",
}
NUMBERS = {
    "credits": 77,
    "expires_in": 3600,
    "limit": 20,
    "offset": 0,
    "progress": 45,
    "quality_score": 8.5,
    "total_credits_used": 23,
}
FORMATS = {
    "uuid": UUID,
    "date-time": MOMENT,
    "date": "2026-02-03",
    "email": "alice@example.com",
    "uri": "https://example.com/",
    "binary": "",
}
DEEPEST = 8


def example(
    schema: Schema, components: Mapping[str, Schema], name: str = "", depth: int = 0
) -> Any:
    """Return a value that the schema takes; ``name`` is the field that it stands in."""
    for known in ("example", "const", "default"):
        if known in schema:
            return schema[known]
    if "$ref" in schema:
        known_as = schema["$ref"].rpartition("/")[2]
        return example(components[known_as], components, name, depth + 1)
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return example(schema[several][0], components, name, depth)
    if "allOf" in schema:
        return _merged(schema, components, name, depth)
    if "enum" in schema:
        return schema["enum"][0]
    return _of_type(schema, components, name, depth)


def _of_type(schema: Schema, components: Mapping[str, Schema], name: str, depth: int) -> Any:
    kind = schema.get("type")
    kind = next((one for one in kind if one != "null"), "null") if isinstance(kind, list) else kind
    if kind == "object":
        # What may be left out is: of two fields that exclude each other, none is shown.
        wanted = schema.get("required") or schema.get("properties", {})
        return {
            field: example(below, components, field, depth + 1)
            for field, below in schema.get("properties", {}).items()
            if depth < DEEPEST and field in wanted
        }
    if kind == "array":
        return [example(schema["items"], components, name, depth + 1)] if depth < DEEPEST else []
    if kind == "string":
        return _text(schema, snake(name))
    if kind in ("integer", "number"):
        number = NUMBERS.get(snake(name), 1)
        return min(max(schema.get("minimum", 0), number), schema.get("maximum", number))
    return {"boolean": True, "null": None}.get(kind or "", {})


def _text(schema: Schema, name: str) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]]
    return TEXTS.get(name, "text")[: schema.get("maxLength")]


def _merged(schema: Schema, components: Mapping[str, Schema], name: str, depth: int) -> Any:
    parts = [example(part, components, name, depth) for part in schema["allOf"]]
    if len(parts) == 1:
        return parts[0]
    return {field: value for part in parts for field, value in part.items()}
