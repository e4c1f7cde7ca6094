"""The OpenAPI document as a file and as pages; ``docs/openapi.yaml`` is the same."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer

FILE = Path(settings.BASE_DIR) / "docs" / "openapi.yaml"


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """Return the document. It is made once a process: that takes seconds, and it never changes."""
    # What it cannot find out is a failing test, not a line in every server's log.
    with GENERATOR_STATS.silence():
        made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call] # theirs
    return made


@lru_cache(maxsize=1)
def as_yaml() -> bytes:
    return bytes(OpenApiYamlRenderer().render(document(), renderer_context={}))  # type: ignore[no-untyped-call] # theirs


@lru_cache(maxsize=1)
def as_json() -> bytes:
    return json.dumps(document(), ensure_ascii=False).encode()


@require_safe
def json_file(request: HttpRequest) -> HttpResponse:
    return HttpResponse(as_json(), content_type="application/json")


@require_safe
def yaml_file(request: HttpRequest) -> HttpResponse:
    return HttpResponse(as_yaml(), content_type="application/yaml; charset=utf-8")


@require_safe
def pages(request: HttpRequest) -> HttpResponse:
    """Show the document with Swagger UI; everything that the page needs is served by us."""
    return render(request, "asynccoder/docs.html")
