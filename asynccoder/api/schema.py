"""The OpenAPI document: what views and serializers do not say by themselves.

drf-spectacular describes every view in plain snake_case, once for each of its addresses. The hook
below puts the dialect of the address on it: names and the envelope around what is answered. It adds
what all routes have in common: errors, limit headers and examples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.conf import settings
from drf_spectacular.openapi import AutoSchema

from asynccoder.api.dialects import (
    BESIDE_DATA,
    FOREIGN_KEYS,
    PLAIN_BODIES,
    Dialect,
    camel,
    camelised,
    dialect_of_path,
)
from asynccoder.api.errors import CODES, UNPROCESSABLE_PREFIXES
from asynccoder.api.examples import MOMENT, example
from asynccoder.api.shapes import SIGNED_IN

JSON = "application/json"
VERBS = {
    "list": "List",
    "create": "Create",
    "retrieve": "Show",
    "update": "Edit",
    "destroy": "Remove",
    "cancel": "Cancel",
}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token from a sign-in; METRICS_TOKEN at /metrics.",
    },
    "accessKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key from POST /api/v1/access-keys.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": settings.SESSION_COOKIE_NAME,
        "description": "The dashboard's session; unsafe methods need X-CSRFToken as well.",
    },
}
DESCRIPTION = """\
Two dialects, decided by the address. Under `/api/{auth,users,repositories,tasks,ai-models}` names are camelCase
and answers stand in an envelope; under `/api/v1` and the other addresses names are snake_case and answers are the data itself.
A slash at the end is optional everywhere. Of another's things it is said that they do not exist (404).

Live updates come over the WebSockets `/ws` and `/api/ws/{task,build,analysis}/{id}`, which no OpenAPI document can name.
"""


class Operation(AutoSchema):
    """One operation. Its id is its method and address, so that no two are the same."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation is not None:
            operation["x-signed-in"] = bool(self.view.get_authenticators())
            operation["x-limited"] = bool(self.view.get_throttles())
        return operation

    def get_operation_id(self) -> str:
        words = self.path.replace("{", "").replace("}", "").replace("-", "_").strip("/").split("/")
        return "_".join([self.method.lower(), *words])

    def get_tags(self) -> list[str]:
        words = [word for word in self.path.strip("/").split("/") if word not in ("api", "v1")]
        return [words[0]]

    def get_summary(self) -> str:
        """Return what the method says of itself, or a verb and what the view serves."""
        view: Any = self.view
        action = getattr(view, "action", "")
        verb = VERBS.get(action)
        if verb is None or getattr(view, action).__doc__:
            return str(self.get_description()).partition("\n")[0].partition(". ")[0].rstrip(".")
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", view.serializer_class.__name__)
        noun = " ".join(word if word.isupper() else word.lower() for word in words[:-1])
        if verb == "List":
            return f"List {view.plural.replace('_', ' ')}"
        return f"{verb} {'an' if noun[0] in 'aeioAEIO' else 'a'} {noun}"

    def get_auth(self) -> list[dict[str, list[str]]]:
        return SIGNED_IN if self.view.get_authenticators() else []

    def map_parsers(self) -> list[Any]:
        # A form is flat: only the sign-in says what that means.
        forms = ["application/x-www-form-urlencoded"] if self.path.endswith("/auth/login") else []
        return [JSON, *forms]

    def get_paginated_name(self, serializer_name: str) -> str:
        view: Any = self.view
        return f"{view.plural.title().replace('_', '')}Page"

    def _get_paginator(self) -> Any:
        paginator: Any = super()._get_paginator()  # type: ignore[no-untyped-call] # theirs
        if paginator is not None:
            paginator.view = self.view
        return paginator


def in_dialects(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Put every operation into the dialect of its address (POSTPROCESSING_HOOKS)."""
    result = json.loads(json.dumps(result, default=_plain), object_hook=_without_marks)
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Error": _plain_error(), "EnvelopeError": _envelope_error()}
    result["components"]["securitySchemes"] = SECURITY_SCHEMES
    result["components"]["headers"] = _headers()
    result["components"]["responses"] = {}
    result["info"]["description"] = DESCRIPTION
    result["paths"] = {
        path.replace("{pk}", "{id}"): item for path, item in sorted(result["paths"].items())
    }
    for path, item in result["paths"].items():
        for method, operation in item.items():
            _finish(path, method, operation, result["components"])
    for name, schema in schemas.items():
        schema.pop("x-page", None)
        # An address that nobody has given is answered as an empty text.
        for field in () if "Request" in name else schema.get("properties", {}).values():
            if field.get("format") == "uri":
                del field["format"]
    result["components"]["schemas"] = dict(sorted(_used(result, schemas)))
    return result


def _plain(value: Any) -> Any:
    """Return a set as a list, and a lazy text as a text."""
    return list(value) if isinstance(value, set | frozenset) else str(value)


def _without_marks(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out what drf-spectacular notes for hooks of its own; order what was a set."""
    found.pop("x-spec-enum-id", None)
    if isinstance(found.get("default"), list):
        found["default"] = sorted(found["default"])
    return found


def _finish(path: str, method: str, operation: dict[str, Any], components: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        if parameter["name"] == "pk":
            parameter["name"] = "id"
    operation["operationId"] = operation["operationId"].replace("_pk", "_id")
    is_limited, is_signed_in = operation.pop("x-limited"), operation.pop("x-signed-in")
    schemas, responses = components["schemas"], operation["responses"]
    if dialect_of_path(path) is Dialect.ENVELOPE:
        _to_envelope(path, operation, schemas)
    errors = set(_statuses(path, method, operation, is_signed_in=is_signed_in))
    errors |= {int(status) for status, found in responses.items() if "content" not in found}
    errors |= {429} if is_limited else set()
    for response in responses.values():
        response["description"] = response["description"] or "Done."
        response["headers"] = response.get("headers", {}) | _headers_of(path, is_limited=is_limited)
    for status in sorted(status for status in errors if status >= 400):
        if "content" not in responses.get(str(status), {}):
            name, error = _error(status, path, is_limited=is_limited)
            components["responses"][name] = error
            responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
    operation["responses"] = dict(sorted(responses.items()))
    for content in _contents(operation):
        content.setdefault("example", example(content["schema"], schemas))


def _headers_of(path: str, *, is_limited: bool) -> dict[str, Any]:
    names = ["X-Request-ID"]
    if is_limited:
        is_plain = dialect_of_path(path) is Dialect.PLAIN
        reset = "X-RateLimit-Reset" if is_plain else "X-RateLimit-Reset-ISO"
        names += ["X-RateLimit-Limit", "X-RateLimit-Remaining", reset]
    return {name.removesuffix("-ISO"): {"$ref": f"#/components/headers/{name}"} for name in names}


def _contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every JSON or form body of an operation."""
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for body in bodies:
        for media_type, content in body.get("content", {}).items():
            if media_type in (JSON, "application/x-www-form-urlencoded") and "schema" in content:
                yield content


# --- The envelope -------------------------------------------------------------------------------
def _to_envelope(path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    is_shared = path in PLAIN_BODIES
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            parameter["name"] = camel(parameter["name"])
            if parameter["name"] == "offset":
                schema = parameter["schema"] | {"minimum": 1, "default": 1}
                parameter.update(name="page", schema=schema)
                parameter["description"] = "Counted from 1."
    bodies = [operation.get("requestBody", {})]
    for content in [one for body in bodies for one in body.get("content", {}).values()]:
        plain = content["schema"]
        content["schema"] = _either(plain, _camel(plain, schemas), is_shared=is_shared)
    for status, response in operation["responses"].items():
        content = response.get("content", {}).get(JSON)
        if content is not None and int(status) < 400:
            plain = content["schema"]
            wrapped = _wrapped(path, plain, schemas)
            content["schema"] = _either(plain, wrapped, is_shared=is_shared)


def _either(plain: Any, enveloped: Any, *, is_shared: bool) -> Any:
    """Return both on a path where the body decides (contract, section 1)."""
    return {"anyOf": [plain, enveloped]} if is_shared and plain != enveloped else enveloped


def _wrapped(path: str, schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    named = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    properties: dict[str, Any] = {"success": {"type": "boolean", "const": True}}
    number = {"type": "integer"}
    if plural := named.get("x-page"):
        items = _camel(named["properties"][plural], schemas)
        paging = {"page": number, "limit": number, "total": number}
        properties["data"] = _object({camel(plural): items} | paging)
        properties["meta"] = _object(paging | {"totalPages": number})
    else:
        properties["data"] = _camel(schema, schemas)
        beside = BESIDE_DATA.get(path, ())
        shown = named.get("properties", {})
        properties |= {name: shown[name] for name in beside if name in shown}
    return _object(properties)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _camel(schema: Any, schemas: dict[str, Any]) -> Any:
    """Return the schema with our own names in camelCase; what it refers to is made beside it."""
    if isinstance(schema, list):
        return [_camel(part, schemas) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return schema | {"$ref": _camel_component(schema["$ref"], schemas)}
    changed = {key: _camel(value, schemas) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        changed["properties"] = {
            camel(name): below if name in FOREIGN_KEYS else _camel(below, schemas)
            for name, below in schema["properties"].items()
        }
        if "required" in schema:
            changed["required"] = [camel(name) for name in schema["required"]]
    if "example" in schema:
        changed["example"] = camelised(schema["example"])
    return changed


def _camel_component(reference: str, schemas: dict[str, Any]) -> str:
    prefix, _, name = reference.rpartition("/")
    if f"{name}Camel" not in schemas:
        schemas[f"{name}Camel"] = {}  # It may refer to itself.
        recased = _camel(schemas[name], schemas)
        if recased == schemas[name]:
            del schemas[f"{name}Camel"]
            return reference
        schemas[f"{name}Camel"] = recased
    return f"{prefix}/{name}Camel"


def _used(result: dict[str, Any], schemas: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the components that something refers to."""
    todo = _references(json.dumps([result["paths"], result["components"]["responses"]]))
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo |= _references(json.dumps(schemas[name]))
            yield name, schemas[name]


def _references(text: str) -> set[str]:
    return {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}


# --- What all routes have in common -------------------------------------------------------------
def _statuses(
    path: str, method: str, operation: dict[str, Any], *, is_signed_in: bool
) -> Iterator[int]:
    """Yield the errors that an operation may answer with because of what it is."""
    yield 503
    places = {parameter["in"] for parameter in operation.get("parameters", [])}
    if is_signed_in:
        yield from (401, 403)
    # A body, too, may name a repository or a model that does not exist.
    if "path" in places or (is_signed_in and "requestBody" in operation):
        yield 404
    if "requestBody" in operation or "query" in places:
        yield 400
        if path.startswith(UNPROCESSABLE_PREFIXES):
            yield 422
    if method in ("post", "put", "patch", "delete"):
        yield from (409, 413, 415) if "requestBody" in operation else (409,)


def _error(status: int, path: str, *, is_limited: bool) -> tuple[str, dict[str, Any]]:
    """Return the response of an error on this path and its name in the components."""
    code, message = CODES[status], HTTPStatus(status).phrase
    shown: dict[str, Any] = {"code": code, "message": message, "details": {}}
    if path in PLAIN_BODIES:
        kind, schema = "Either", {"anyOf": [_reference("EnvelopeError"), _reference("Error")]}
    elif dialect_of_path(path) is Dialect.ENVELOPE:
        kind, schema = "Envelope", _reference("EnvelopeError")
    else:
        kind, schema = "Plain", _reference("Error")
        shown |= {"error": code.lower(), "detail": message, "status_code": status}
        shown |= {"timestamp": MOMENT} | ({"retry_after": 60} if status == 429 else {})
    example = shown if kind == "Plain" else {"success": False, "error": shown}
    headers = _headers_of(path, is_limited=is_limited)
    if status == 429:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    content = {JSON: {"schema": schema, "example": example}}
    response = {"description": f"`{code}`", "headers": headers, "content": content}
    return f"{kind}{status}{'' if is_limited else 'Unlimited'}", response


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _plain_error() -> dict[str, Any]:
    text = {"type": "string"}
    required = {
        "error": text | {"description": "The code in lower case."},
        "message": text,
        "detail": text | {"description": "The same as message."},
        "code": text,
        "details": {"type": "object", "additionalProperties": {}},
        "status_code": {"type": "integer"},
        "timestamp": text | {"format": "date-time"},
    }
    schema = _object(required)
    wait = {"type": "integer", "description": "Seconds; with status 429."}
    return schema | {"properties": required | {"retry_after": wait}}


def _envelope_error() -> dict[str, Any]:
    text = {"type": "string"}
    details = {"type": "object", "additionalProperties": {}}
    error = _object({"code": text, "message": text, "details": details})
    return _object({"success": {"type": "boolean", "const": False}, "error": error})


def _headers() -> dict[str, Any]:
    number, text = {"type": "integer"}, {"type": "string"}
    return {
        name: {"description": description, "schema": schema}
        for name, description, schema in (
            ("X-Request-ID", "The request's id in the logs.", text),
            ("X-RateLimit-Limit", "Requests in a period.", number),
            ("X-RateLimit-Remaining", "How many are left.", number),
            ("X-RateLimit-Reset", "The end of the period in Unix seconds.", number),
            ("X-RateLimit-Reset-ISO", "The end of the period.", text | {"format": "date-time"}),
            ("Retry-After", "Seconds to wait.", number),
        )
    }
