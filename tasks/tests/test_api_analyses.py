"""/api/analysis: the shapes that S2 prints, who may see what, and what is refused."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from asynccoder.tests.processes import Process, wait_for
from repositories import connect
from repositories.models import Repository
from tasks.models import Analysis, Status, Task, TaskResult
from tasks.tests.make import make_model, make_repository, make_task
from tasks.tests.world import SHORT, commit_files

ROUTE = "/api/analysis"
EXAMPLE = {"project_name": "my-project", "analysis_types": ["quality", "security", "types"]}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ISSUE = {
    "issue": "SQL Injection",
    "severity": "high",
    "line": 42,
    "recommendation": "Use parameterized queries",
}
FIGURES: dict[str, Any] = {
    "quality_score": 8.5,
    "security_issues": [ISSUE],
    "code_smells": 5,
    "type_errors": 0,
    "coverage_percent": 87.5,
    "recommendations": ["Add docstrings to public functions", "Extract complex methods"],
}
TOOLS = {"ruff": "0.17.6", "bandit": "1.9.1", "mypy": "2.4.0", "coverage": "7.17.0"}


@pytest.fixture(autouse=True)
def _model(db: None) -> None:
    make_model()


@pytest.fixture
def repository(alice: User) -> Repository:
    return make_repository(owner=alice, name="my-project")


def make_analysis(owner: User, **values: Any) -> Task:
    values.setdefault("parameters", {"analysis_types": ["quality"]})
    return make_task(owner=owner, type="analysis", **values)


def make_finished(owner: User, **values: Any) -> Task:
    figures = values.pop("figures", FIGURES | {"tools": TOOLS})
    task = make_analysis(owner, status=Status.COMPLETED, progress=100, **values)
    data = {"not_measured": {"lizard": "not asked for"}}
    TaskResult.objects.create(task=task, kind="report", data=data)
    Analysis.objects.create(task=task, repository=task.repository, **figures)
    return task


def test_the_published_example_starts_an_analysis(
    alice_api: APIClient, alice: User, repository: Repository
) -> None:
    answer = alice_api.post(f"{ROUTE}/", EXAMPLE)
    assert answer.status_code == 202, answer.json()
    task = Task.objects.get()
    assert (task.owner, task.repository, task.type) == (alice, repository, "analysis")
    assert task.parameters == {"analysis_types": ["quality", "security", "types"]}
    body = answer.json()
    assert MOMENT.fullmatch(body["timestamp"])
    published = dict.fromkeys(FIGURES) | {
        "analysis_id": str(task.pk),
        "project_name": "my-project",
        "performed_by": "alice",
        "status": "initializing",
    }
    assert published.items() <= body.items()
    assert alice_api.get(f"{ROUTE}/{task.pk}").json() == body


def test_a_finished_analysis_has_the_published_shape(
    alice_api: APIClient, alice: User, repository: Repository
) -> None:
    task = make_finished(alice, repository=repository)
    body = alice_api.get(f"{ROUTE}/{task.pk}").json()
    published = FIGURES | {
        "analysis_id": str(task.pk),
        "project_name": "my-project",
        "performed_by": "alice",
        "status": "completed",
        "tools": TOOLS,
        "not_measured": {"lizard": "not asked for"},
    }
    assert published.items() <= body.items()
    assert alice_api.get(f"{ROUTE}/").json() == {
        "total": 1,
        "limit": 20,
        "offset": 0,
        "analyses": [body],
    }


def test_no_issues_are_claimed_where_nobody_looked(alice_api: APIClient, alice: User) -> None:
    looked = {"security_issues": [], "tools": {"bandit": "1"}}
    for figures, expected in (({"tools": {"ruff": "1"}}, None), (looked, [])):
        task = make_finished(alice, figures=figures)
        body = alice_api.get(f"{ROUTE}/{task.pk}").json()
        assert (body["security_issues"], body["quality_score"]) == (expected, None)


def test_a_failed_analysis_says_why(alice_api: APIClient, alice: User) -> None:
    task = make_analysis(alice, status=Status.FAILED, error_message="Not reached.")
    body = alice_api.get(f"{ROUTE}/{task.pk}").json()
    assert (body["status"], body["error"], body["tools"]) == ("failed", "Not reached.", None)


def test_the_types_may_be_left_out_and_come_in_any_order(
    alice_api: APIClient, repository: Repository
) -> None:
    for given, expected in (
        ({}, ["quality", "security", "types"]),
        ({"analysis_types": ["types", "quality", "types"]}, ["quality", "types"]),
    ):
        answer = alice_api.post(f"{ROUTE}/", {"repository_id": str(repository.pk)} | given)
        assert answer.json()["analysis_types"] == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"analysis_types": []},
        {"analysis_types": ["quality", "beauty"]},
        {"analysis_types": "quality"},
        {"analysis_types": None},
        {"project_name": "../up"},
        {"project_name": ""},
        {"repository_id": str(uuid.UUID(int=1))},
        {"branch": "-x"},
    ],
)
def test_a_refused_value_is_422(
    alice_api: APIClient, repository: Repository, wrong: dict[str, Any]
) -> None:
    answer = alice_api.post(f"{ROUTE}/", EXAMPLE | wrong)
    assert (answer.status_code, answer.json()["status_code"]) == (422, 422), answer.content
    assert not Task.objects.exists()


def test_a_project_must_be_named(alice_api: APIClient) -> None:
    assert alice_api.post(f"{ROUTE}/", {}).status_code == 422


def test_what_is_not_there_is_404(
    alice_api: APIClient, mallory_api: APIClient, repository: Repository
) -> None:
    assert alice_api.post(f"{ROUTE}/", {"project_name": "other"}).status_code == 404
    assert mallory_api.post(f"{ROUTE}/", EXAMPLE).status_code == 404
    body = {"repository_id": str(repository.pk)}
    assert mallory_api.post(f"{ROUTE}/", body).status_code == 404
    assert not Task.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_real_tools_measure_a_repository(
    alice: User, alice_api: APIClient, worker_process: Callable[..., Process], tmp_path: Path
) -> None:
    folder = tmp_path / "my-project"
    commit_files(folder, {"app.py": "import os\n\n\ndef one(a: int) -> str:\n    return a\n"})
    connect.connect_repository(owner=alice, url=str(folder), is_operator=True)
    worker_process(**SHORT)
    made = alice_api.post(f"{ROUTE}/", EXAMPLE | {"model": "builtin"}).json()

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = alice_api.get(f"{ROUTE}/{made['analysis_id']}").json()
        return found

    wait_for(lambda: shown()["status"] in ("completed", "failed"), seconds=90)
    body = shown()
    assert body["error"] is None
    assert (body["code_smells"], body["type_errors"]) == (1, 1)
    assert {"ruff", "bandit", "mypy", "lizard"} <= body["tools"].keys()
    assert all(re.match(r"\d", body["tools"][tool]) for tool in ("ruff", "bandit", "mypy"))
    assert body["not_measured"].keys() == {"coverage"}
    assert body["coverage_percent"] is None
