"""Schemathesis against the document: no crash, and no answer that the document does not name.

``SCHEMATHESIS_EXAMPLES=1000 .venv/bin/pytest asynccoder/tests/test_fuzzing.py`` asks longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core import signals
from django.core.handlers.wsgi import WSGIHandler
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts import tokens
from accounts.models import User
from asynccoder.api import document

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(3600)]
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "20"))
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
# They answer for as long as a task runs; tasks/tests/test_api_execute.py reads them.
STREAMS = {"post_api_v1_execute_stream", "get_api_v1_tasks_id_stream"}
OPERATIONS = sorted(
    (path, method)
    for path, item in document.document()["paths"].items()
    for method, operation in item.items()
    if operation["operationId"] not in STREAMS
)


@pytest.fixture(autouse=True)
def _one_connection() -> Iterator[None]:
    """Keep the test's connection between requests, as Django's own test client does."""
    pairs = [signals.request_started, signals.request_finished]
    for signal in pairs:
        signal.disconnect(close_old_connections)
    yield
    for signal in pairs:
        signal.connect(close_old_connections)


def ask(path: str, method: str, headers: dict[str, str], *, examples: int) -> None:
    """Send generated requests of one operation and check every answer."""
    schema = schemathesis.openapi.from_dict(document.document())
    schema.app = WSGIHandler()
    operation = schema[path][method]

    @given(case=operation.as_strategy())
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 100,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        if "wait" in (case.query or {}):
            case.query["wait"] = 0
        answer = case.call(headers=headers, base_url="http://localhost")
        assert answer.status_code != 500, case.as_curl_command()
        case.validate_response(answer, checks=CHECKS)

    check()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_a_documented_one(path: str, method: str, alice: User) -> None:
    ask(path, method, {"Authorization": f"Bearer {tokens.begin(alice).access}"}, examples=EXAMPLES)


def test_the_fuzzer_finds_an_answer_that_is_not_documented(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    made = document.document()
    operation = made["paths"]["/api/v1/users/me"]["get"]
    monkeypatch.setitem(operation, "responses", {"418": {"description": "No."}})
    headers = {"Authorization": f"Bearer {tokens.begin(alice).access}"}
    with pytest.raises(FailureGroup) as caught:
        ask("/api/v1/users/me", "get", headers, examples=1)
    assert "UndefinedStatusCode" in repr(caught.value.exceptions)
