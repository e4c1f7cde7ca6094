"""/api/build: the shapes that S2 prints, who may see what, and what is refused."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from aimodels.models import AIModel
from repositories.models import Repository, RepositoryAccess
from tasks.models import Check, Status, Task, TaskResult
from tasks.tests.make import make_model, make_repository, make_task

ROUTE = "/api/build"
EXAMPLE = {
    "project_name": "my-project",
    "goal": "Add authentication module with JWT support",
    "parameters": {"framework": "fastapi", "database": "postgresql", "include_tests": True},
}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(autouse=True)
def model(db: None, settings: Any) -> AIModel:
    """A model that can build; the built-in engine cannot."""
    settings.OPENAI_API_KEY = "sk-platform-key"
    return make_model(
        provider="openai", name="scripted", display_name="Scripted", context_window=100_000
    )


def make_build(owner: User, **values: Any) -> Task:
    return make_task(owner=owner, **({"type": "build", "prompt": "Add authentication"} | values))


def make_finished(owner: User, **values: Any) -> Task:
    task = make_build(owner, status=Status.COMPLETED, outcome="done", progress=100, **values)
    files = [{"path": "auth.py"}, {"path": "models.py"}]
    data = {"tests_passed": 12, "test_coverage": 87.5}
    TaskResult.objects.create(
        task=task, kind="code_changes", summary="Made", files=files, data=data
    )
    for phase, verdict in (("before", "not_run"), ("after", "passed")):
        Check.objects.create(task=task, phase=phase, command="pytest", verdict=verdict)
    return task


def routes(task_id: object) -> list[tuple[str, str]]:
    return [("get", f"{ROUTE}/{task_id}"), ("delete", f"{ROUTE}/{task_id}")]


EVERY = [*routes(uuid.UUID(int=1)), ("get", f"{ROUTE}/"), ("post", f"{ROUTE}/")]


def test_an_admin_sees_and_cancels_everyones(staff_api: APIClient, alice: User) -> None:
    task = make_build(alice)
    assert staff_api.get(f"{ROUTE}/").json()["total"] == 1
    assert staff_api.delete(f"{ROUTE}/{task.pk}").status_code == 200


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_published_example_makes_a_project(
    alice_api: APIClient, alice: User, slash: str
) -> None:
    answer = alice_api.post(f"{ROUTE}{slash}", EXAMPLE)
    assert answer.status_code == 202, answer.json()
    task = Task.objects.get()
    assert answer.json() == {
        "task_id": str(task.pk),
        "status": "initializing",
        "message": "Build task created successfully",
    }
    assert (task.owner, task.type, task.prompt) == (alice, "build", EXAMPLE["goal"])
    assert task.parameters == EXAMPLE["parameters"]
    repository = task.repository
    assert repository is not None
    assert (repository.kind, repository.owner) == ("hosted", alice)
    assert (repository.name, repository.default_branch) == ("my-project", "main")


def test_a_second_build_goes_on_in_the_same_project(alice_api: APIClient, alice: User) -> None:
    for _ in range(2):
        assert alice_api.post(f"{ROUTE}/", EXAMPLE).status_code == 202
    first, second = Task.objects.all()
    assert first.repository == second.repository
    assert Repository.objects.count() == 1


def test_the_name_of_a_connected_repository_means_that_one(
    alice_api: APIClient, alice: User, mallory: User
) -> None:
    make_repository(owner=mallory, name="my-project")
    own = make_repository(owner=alice, name="my-project", full_name="alice/my-project")
    assert alice_api.post(f"{ROUTE}/", EXAMPLE).status_code == 202
    assert Task.objects.get().repository == own


def test_a_name_that_two_repositories_share_is_409(alice_api: APIClient, alice: User) -> None:
    for owner in ("acme", "umbrella"):
        make_repository(owner=alice, name="my-project", full_name=f"{owner}/my-project")
    answer = alice_api.post(f"{ROUTE}/", EXAMPLE)
    assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")


def test_the_same_key_gives_the_first_build(alice_api: APIClient) -> None:
    first, again, other = (
        alice_api.post(f"{ROUTE}/", EXAMPLE | {"goal": goal}, HTTP_IDEMPOTENCY_KEY="k-1")
        for goal in ("One", "One", "Other")
    )
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 409)
    assert first.json()["task_id"] == again.json()["task_id"]
    assert Task.objects.count() == 1


NAMES = ["", ".hidden", "-rf", "a/b", "../up", "a b", "ä", "n" * 101, "x;rm -rf", None, ["x"]]


@pytest.mark.parametrize(
    "wrong",
    [{"project_name": name} for name in NAMES]
    + [{"goal": ""}, {"goal": " \n"}, {"goal": None}, {"parameters": [1]}, {"branch": "main"}],
)
def test_a_refused_value_is_422_and_leaves_nothing(
    alice_api: APIClient, wrong: dict[str, Any]
) -> None:
    answer = alice_api.post(f"{ROUTE}/", EXAMPLE | wrong)
    assert answer.status_code == 422, answer.content
    body = answer.json()
    assert (body["error"], body["code"]) == ("validation_error", "VALIDATION_ERROR")
    assert body["status_code"] == 422
    assert not Task.objects.exists()
    assert not Repository.objects.exists()


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "n" * 100, "a..b"])
def test_every_good_name_is_taken(alice_api: APIClient, name: str) -> None:
    assert alice_api.post(f"{ROUTE}/", EXAMPLE | {"project_name": name}).status_code == 202


@pytest.mark.parametrize("body", ["{", '"text"', '{"goal": NaN}'])
def test_malformed_json_is_400(alice_api: APIClient, body: str) -> None:
    answer = alice_api.post(f"{ROUTE}/", body, content_type="application/json")
    assert (answer.status_code, answer.json()["status_code"]) == (400, 400)


def test_without_a_model_that_can_build_nothing_is_left(
    alice_api: APIClient, settings: Any
) -> None:
    settings.OPENAI_API_KEY = ""
    answer = alice_api.post(f"{ROUTE}/", EXAMPLE)
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert "OPENAI_API_KEY" in answer.json()["message"]
    assert not Repository.objects.exists()


def test_a_waiting_build_has_the_published_shape(alice_api: APIClient, alice: User) -> None:
    repository = make_repository(owner=alice, name="my-project")
    task = make_build(alice, repository=repository)
    body = alice_api.get(f"{ROUTE}/{task.pk}").json()
    assert MOMENT.fullmatch(body.pop("created_at"))
    assert body == {
        "task_id": str(task.pk),
        "project_name": "my-project",
        "status": "initializing",
        "progress": 0,
        "created_by": "alice",
        "goal": "Add authentication",
        "results": None,
        "error": None,
    }


def test_a_finished_build_has_its_results(alice_api: APIClient, alice: User) -> None:
    task = make_finished(alice)
    body = alice_api.get(f"{ROUTE}/{task.pk}").json()
    assert (body["status"], body["progress"]) == ("completed", 100)
    published = {
        "generated_files": ["auth.py", "models.py"],
        "tests_passed": 12,
        "test_coverage": 87.5,
    }
    assert published.items() <= body["results"].items()
    assert (body["results"]["checks_passed"], body["results"]["checks_failed"]) == (1, 0)


def test_a_failed_build_says_why(alice_api: APIClient, alice: User) -> None:
    task = make_build(alice, status=Status.FAILED, error_code="x", error_message="Too dear.")
    body = alice_api.get(f"{ROUTE}/{task.pk}").json()
    assert (body["status"], body["results"], body["error"]) == ("failed", None, "Too dear.")


def test_a_build_without_a_repository_has_no_project(alice_api: APIClient, alice: User) -> None:
    task = make_build(alice, repository=None, type="implement")
    assert alice_api.get(f"{ROUTE}/{task.pk}").json()["project_name"] is None


def test_the_history_is_paged_newest_first(alice_api: APIClient, alice: User) -> None:
    repository = make_repository(owner=alice)
    made = [str(make_build(alice, repository=repository).pk) for _ in range(5)]
    make_task(owner=alice, type="debug")
    pages = [alice_api.get(f"{ROUTE}/?limit=2&offset={offset}").json() for offset in (0, 2, 4)]
    assert [(page["total"], page["limit"], page["offset"]) for page in pages] == [
        (5, 2, 0),
        (5, 2, 2),
        (5, 2, 4),
    ]
    shown = [build["task_id"] for page in pages for build in page["builds"]]
    assert shown == made[::-1]
    single = alice_api.get(f"{ROUTE}/{made[0]}").json()
    assert single == pages[2]["builds"][0]


def test_cancelling_answers_as_published_and_then_409(alice_api: APIClient, alice: User) -> None:
    task = make_build(alice)
    answer = alice_api.delete(f"{ROUTE}/{task.pk}")
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": "Build task cancelled successfully"},
    )
    task.refresh_from_db()
    assert task.status == Status.CANCELLED
    for ended in (task, make_finished(alice)):
        assert alice_api.delete(f"{ROUTE}/{ended.pk}").status_code == 409


def test_who_may_look_may_not_cancel(mallory_api: APIClient, mallory: User, alice: User) -> None:
    repository = make_repository(owner=alice)
    task = make_build(alice, repository=repository)
    RepositoryAccess.objects.create(repository=repository, user=mallory, level="write")
    assert mallory_api.get(f"{ROUTE}/{task.pk}").status_code == 200
    assert mallory_api.delete(f"{ROUTE}/{task.pk}").status_code == 403
