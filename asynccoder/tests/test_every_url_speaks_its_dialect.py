"""Every route of the API answers its errors in its dialect."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from asynccoder.tests.test_every_url_is_guarded import PATHS

API = [path for path in PATHS if re.match(r"/(api|auth)(/|$)", path)]
PLAIN = re.compile(r"/api/(v1|build|analysis|chat|files|health|auth/register)(/|$)|/auth/")


def assert_dialect(path: str, answer: Any) -> None:
    body = answer.json()
    if PLAIN.match(path):
        assert {"error", "message", "detail", "code", "status_code", "timestamp"} <= body.keys(), (
            path
        )
    else:
        assert body.keys() == {"success", "error"}, path
        assert body["error"].keys() == {"code", "message", "details"}, path


def test_there_are_routes_of_both_dialects() -> None:
    assert len([path for path in API if PLAIN.match(path)]) > 10
    assert len([path for path in API if not PLAIN.match(path)]) > 5


@pytest.mark.parametrize("path", [path for path in API if not path.startswith("/api/health")])
def test_errors_have_the_dialect_of_the_route(path: str, api: APIClient, staff: Any) -> None:
    for signed_in in (False, True):
        if signed_in:
            api.force_authenticate(staff)
        for answer in (
            api.patch(path, {}),
            api.options(path),
            api.post(path, "{", content_type="application/json"),
            api.post(path, "<a/>", content_type="text/xml"),
            api.put(path, "[]", content_type="application/json"),
        ):
            if answer.status_code >= 400:
                assert_dialect(path, answer)
            assert answer.status_code != 500, path


@pytest.mark.parametrize("path", API)
def test_the_slash_at_the_end_is_optional(path: str, db: None) -> None:
    client = Client()
    codes = {client.get(path).status_code, client.get(f"{path}/").status_code}
    assert len(codes) == 1
    assert codes.isdisjoint({301, 302, 308, 404})
