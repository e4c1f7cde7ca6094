"""The OpenAPI document: whole, valid, in both dialects, and equal to the file in ``docs/``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # it has no types
from rest_framework.test import APIClient

from asynccoder.api import document
from asynccoder.api.dialects import FOREIGN_KEYS, camel
from asynccoder.tests.test_every_url_is_guarded import PATHS
from asynccoder.tests.test_every_url_speaks_its_dialect import PLAIN

METHODS = ("get", "post", "put", "patch", "delete")
SHARED = ("/api/auth/login", "/api/auth/refresh")
# Documents of the document itself, and pages.
NOT_IN_IT = re.compile(r"/(openapi\.(json|yaml)|docs|admin/.*|favicon\.ico|sign-.*)?")


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return document.document()


def operations(whole: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in whole["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def resolved(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = whole
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def test_nothing_was_left_for_the_machine_to_guess(capsys: pytest.CaptureFixture[str]) -> None:
    document.document.cache_clear()
    GENERATOR_STATS.reset()
    document.document()
    with capsys.disabled():
        found = [*GENERATOR_STATS._error_cache, *GENERATOR_STATS._warn_cache]
    assert found == [], "say it with @extend_schema on the view (asynccoder/api/shapes.py helps)"


def test_the_file_is_what_the_code_says() -> None:
    is_same = document.FILE.read_bytes() == document.as_yaml()
    assert is_same, "routes or serializers have changed: run `make openapi` and commit the file"


def test_the_document_is_valid(whole: dict[str, Any]) -> None:
    assert whole["openapi"] == "3.1.0"
    validate_schema(whole)  # type: ignore[no-untyped-call] # theirs
    for schema in whole["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_route_of_the_api_is_in_it(whole: dict[str, Any]) -> None:
    shape = re.compile(r"\{\w+\}")
    known = {shape.sub("7", path) for path in whole["paths"]}
    routes = {
        re.sub(r"/(?:[0-9a-f]{8}-[0-9a-f-]{27}|7|x)(?=/|$)", "/7", path)
        for path in PATHS
        if re.match(r"/(api|auth|health|ready|metrics)(/|$)", path)
    }
    assert routes - known == set()
    assert len(known) >= 57


def test_no_two_operations_have_one_id(whole: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(whole)]
    assert len(ids) == len(set(ids))
    assert [one for one in ids if not re.fullmatch(r"[a-z][a-z0-9_]+", one)] == []


def test_every_operation_says_what_it_does_and_who_may(whole: dict[str, Any]) -> None:
    schemes = set(whole["components"]["securitySchemes"])
    for path, method, operation in operations(whole):
        assert operation["summary"], (method, path)
        assert len(operation["tags"]) == 1
        named = {name for way in operation.get("security", []) for name in way}
        assert named <= schemes
        assert ("401" in operation["responses"]) >= bool(operation.get("security", [{}])[0])


def names(whole: dict[str, Any], schema: Any) -> Iterator[str]:
    """Yield the names of our own fields in a schema."""
    if isinstance(schema, list):
        for part in schema:
            yield from names(whole, part)
    elif isinstance(schema, dict):
        if "$ref" in schema:
            yield from names(whole, resolved(whole, schema))
        for name, below in schema.get("properties", {}).items():
            yield name
            if name not in FOREIGN_KEYS:
                yield from names(whole, below)
        for key in ("items", "allOf", "oneOf", "anyOf", "additionalProperties"):
            if key in schema:
                yield from names(whole, schema[key])


def test_every_body_is_in_the_dialect_of_its_address(whole: dict[str, Any]) -> None:
    for path, method, operation in operations(whole):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            for content in resolved(whole, body).get("content", {}).values():
                found = set(names(whole, content["schema"]))
                if PLAIN.match(path) or not path.startswith("/api"):
                    assert {name for name in found if name != name.lower()} == set(), path
                elif path not in SHARED and path != "/api/users/me":
                    assert {name for name in found if name != camel(name)} == set(), (method, path)


def test_answers_of_the_envelope_stand_in_it(whole: dict[str, Any]) -> None:
    seen = 0
    for path, _, operation in operations(whole):
        if not path.startswith("/api/") or PLAIN.match(path) or path in SHARED:
            continue
        for status, response in operation["responses"].items():
            schema = resolved(whole, response)["content"]["application/json"]["schema"]
            fields = resolved(whole, schema)["properties"]
            assert ("data" if int(status) < 400 else "error") in fields, (path, status)
            assert fields["success"]["const"] is (int(status) < 400)
            seen += 1
    assert seen > 50


def test_limited_routes_name_the_headers_and_429(whole: dict[str, Any]) -> None:
    for path, _, operation in operations(whole):
        is_open = re.match(r"/(health|ready|metrics)|/api(/v1)?/health", path)
        assert ("429" in operation["responses"]) != bool(is_open), path
        for response in operation["responses"].values():
            headers = resolved(whole, response)["headers"]
            assert "X-Request-ID" in headers
            assert ("X-RateLimit-Reset" in headers) != bool(is_open), path


def test_every_example_fits_its_schema(whole: dict[str, Any]) -> None:
    seen = 0
    for path, method, operation in operations(whole):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            for kind, content in resolved(whole, body).get("content", {}).items():
                if kind in ("application/json", "application/x-www-form-urlencoded"):
                    schema = content["schema"] | {"components": whole["components"]}
                    errors = list(Draft202012Validator(schema).iter_errors(content["example"]))
                    assert errors == [], (method, path)
                    seen += 1
    assert seen > 400


def test_the_documents_are_served_to_everybody(api: APIClient, client: Client, db: None) -> None:
    for path in ("/openapi.json", "/openapi.json/"):
        response = client.get(path)
        assert response["Content-Type"] == "application/json"
        assert json.loads(response.content) == document.document()
    response = client.get("/openapi.yaml")
    assert response["Content-Type"].startswith("application/yaml")
    assert yaml.safe_load(response.content)["info"]["title"] == "Async Coder"
    assert response.content == document.FILE.read_bytes()
    for path in ("/openapi.json", "/openapi.yaml", "/docs"):
        assert client.post(path).status_code == 405
        assert client.head(path).status_code == 200


def test_the_command_writes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(document, "FILE", tmp_path / "openapi.yaml")
    call_command("openapi")
    assert (tmp_path / "openapi.yaml").read_bytes() == document.as_yaml()
    call_command("openapi", "--print")
    assert "openapi: 3.1.0" in capsys.readouterr().out
