"""A body of the wrong types is refused, and nothing is made of it."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from aimodels.api.serializers import OwnModelSerializer
from asynccoder.api.typed import Typed
from tasks.api.serializers import AnalysisRequestSerializer, BuildRequestSerializer

BUILD = {"project_name": "shop", "goal": "A shop"}
MODEL = {"name": "mine", "base_url": "https://models.example/v1"}
WRONG: list[tuple[type[Typed], dict[str, Any], str]] = [
    (BuildRequestSerializer, BUILD | {"goal": 7}, "goal"),
    (BuildRequestSerializer, BUILD | {"goal": True}, "goal"),
    (BuildRequestSerializer, BUILD | {"max_credits": "5"}, "max_credits"),
    (BuildRequestSerializer, BUILD | {"max_credits": True}, "max_credits"),
    (BuildRequestSerializer, BUILD | {"ai_model_id": 7}, "ai_model_id"),
    (BuildRequestSerializer, BUILD | {"files": [{"path": "a", "content": 0}]}, "files"),
    (AnalysisRequestSerializer, {"project_name": "a", "analysis_types": {"types": 1}}, "analysis_types"),
    (OwnModelSerializer, MODEL | {"is_active": "true"}, "is_active"),
    (OwnModelSerializer, MODEL | {"is_active": 0}, "is_active"),
    (OwnModelSerializer, MODEL | {"capabilities": [1]}, "capabilities"),
]  # fmt: skip


@pytest.mark.parametrize(("takes", "body", "field"), WRONG)
def test_what_could_be_read_as_another_type_is_refused(
    takes: type[Typed], body: dict[str, Any], field: str
) -> None:
    read = takes(data=body)
    assert not read.is_valid()
    assert set(read.errors) == {field}


def test_the_right_types_are_taken() -> None:
    read = BuildRequestSerializer(data=BUILD | {"max_credits": 5.0, "ai_model_id": None})
    assert read.is_valid(), read.errors
    assert read.validated_data["max_credits"] == 5


@pytest.mark.parametrize("path", ["/api/users/me", "/api/v1/users/me"])
def test_the_refusal_names_the_field_and_changes_nothing(
    path: str, alice_api: APIClient, alice: User
) -> None:
    body = {"displayName": 7} if path == "/api/users/me" else {"display_name": 7}
    answer = alice_api.put(path, body)
    assert answer.status_code == 400
    assert next(iter(body)) in answer.content.decode()
    alice.refresh_from_db()
    assert alice.display_name == ""
