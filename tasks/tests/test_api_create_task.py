"""POST /api/v1/tasks and /api/tasks: what is taken, what is refused, what is done once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from aimodels.models import AIModel
from billing import ledger
from repositories.models import Repository, RepositoryAccess
from tasks.models import Priority, Status, Task
from tasks.tests.make import make_repository

NOBODYS = str(uuid.UUID(int=1))
PLAIN, ENVELOPE = "/api/v1/tasks", "/api/tasks"


@pytest.fixture(autouse=True)
def _no_keys(settings: Any) -> None:
    settings.CLAUDE_API_KEY = settings.OPENAI_API_KEY = settings.GEMINI_API_KEY = ""


@pytest.fixture
def as_alice(api: APIClient, alice: User) -> APIClient:
    api.force_authenticate(alice)
    return api


@pytest.fixture
def repository(alice: User) -> Repository:
    return make_repository(owner=alice)


def body(repository: Repository, **values: Any) -> dict[str, Any]:
    return {
        "repository_id": str(repository.pk),
        "type": "debug",
        "prompt": "Find and fix the bug",
    } | values


@pytest.mark.parametrize("route", [PLAIN, ENVELOPE])
def test_anonymous_gets_401(api: APIClient, db: None, route: str) -> None:
    assert api.post(route, {}).status_code == 401


@pytest.mark.parametrize("route", [PLAIN, ENVELOPE])
def test_a_viewer_starts_nothing(api: APIClient, victor: User, route: str) -> None:
    api.force_authenticate(victor)
    answer = api.post(route, body(make_repository(owner=victor)))
    assert answer.status_code == 403
    assert not Task.objects.exists()


def test_the_published_example_of_the_envelope(
    as_alice: APIClient, alice: User, repository: Repository
) -> None:
    builtin = AIModel.objects.get(name="builtin")
    answer = as_alice.post(
        ENVELOPE,
        {
            "repositoryId": str(repository.pk),
            "aiModelId": str(builtin.pk),
            "title": "Fix bug in authentication",
            "description": "Optional description",
            "prompt": "Find and fix the authentication bug in the login component",
            "type": "debug",
            "priority": "medium",
        },
    )
    assert answer.status_code == 201, answer.json()
    assert answer.json()["success"] is True
    published = {
        "title": "Fix bug in authentication",
        "description": "Optional description",
        "status": "pending",
        "type": "debug",
        "priority": "medium",
        "estimatedCredits": 0,
    }
    data = answer.json()["data"]
    assert published.items() <= data.items()
    assert {"id", "createdAt"} <= data.keys()
    task = Task.objects.get(pk=data["id"])
    assert (task.owner, task.repository, task.model) == (alice, repository, builtin)


def test_the_plain_dialect_takes_every_field(as_alice: APIClient, repository: Repository) -> None:
    answer = as_alice.post(
        PLAIN,
        body(
            repository,
            type="pr_review",
            title="Look",
            description="Why",
            priority="urgent",
            model="builtin",
            patch="--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+2\n",
            parameters={"focusArea": "speed", "deep": {"snake_case": 1}},
            max_credits=5,
        ),
    )
    assert answer.status_code == 201, answer.json()
    data = answer.json()
    assert (data["priority"], data["credit_limit"]) == ("urgent", 5)
    assert data["parameters"] == {"focusArea": "speed", "deep": {"snake_case": 1}}
    task = Task.objects.get(pk=data["id"])
    assert (task.priority, task.cap_microcredits) == (Priority.URGENT, 5_000_000)
    assert task.patch.endswith("+2\n"), "the patch keeps its last newline"


def test_without_a_model_one_is_chosen(as_alice: APIClient, repository: Repository) -> None:
    data = as_alice.post(PLAIN, body(repository)).json()
    assert data["ai_model"]["name"] == "builtin"
    assert data["title"] == "Find and fix the bug"


def test_parameters_keep_their_keys_in_the_envelope(
    as_alice: APIClient, repository: Repository
) -> None:
    parameters = {"focusArea": 1, "focus_level": 2}
    given = {
        "repositoryId": str(repository.pk),
        "type": "debug",
        "prompt": "x",
        "parameters": parameters,
    }
    assert as_alice.post(ENVELOPE, given).json()["data"]["parameters"] == parameters
    assert Task.objects.get().parameters == parameters


def test_nothing_but_the_request_is_taken_from_the_body(
    as_alice: APIClient, alice: User, mallory: User, repository: Repository
) -> None:
    forged = {
        "id": NOBODYS,
        "owner": str(mallory.pk),
        "owner_id": str(mallory.pk),
        "status": "completed",
        "progress": 100,
        "charged_microcredits": -5,
        "credits_used": 0,
        "cap_microcredits": 10**15,
        "estimated_microcredits": 0,
        "generation": 9,
        "is_pushed": True,
        "idempotency_key": "forged",
    }
    as_alice.post(PLAIN, body(repository) | forged)
    task = Task.objects.get()
    assert (task.owner, task.status, task.progress) == (alice, Status.PENDING, 0)
    assert (task.generation, task.is_pushed, task.idempotency_key) == (0, False, "")
    assert str(task.pk) != forged["id"]
    assert task.cap_microcredits < 10**15


WRONG = [
    ({"type": "paint"}, "type"),
    ({"type": None}, "type"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ["a"]}, "prompt"),
    ({"priority": "soon"}, "priority"),
    ({"priority": 2}, "priority"),
    ({"repository_id": "mine"}, "repository_id"),
    ({"ai_model_id": "best"}, "ai_model_id"),
    ({"title": "t" * 201}, "title"),
    ({"parameters": [1]}, "parameters"),
    ({"parameters": {"a": "x" * 70_000}}, "parameters"),
    ({"files": [{"path": "a"}]}, "files"),
    ({"files": "a"}, "files"),
    ({"max_credits": 0}, "max_credits"),
    ({"extra_calls": -1}, "extra_calls"),
]


@pytest.mark.parametrize(("values", "field"), WRONG)
def test_wrong_values_are_refused_in_the_plain_dialect(
    as_alice: APIClient, repository: Repository, values: dict[str, Any], field: str
) -> None:
    answer = as_alice.post(PLAIN, body(repository, **values))
    assert answer.status_code == 400, answer.json()
    assert (answer.json()["error"], answer.json()["code"]) == (
        "validation_error",
        "VALIDATION_ERROR",
    )
    assert field in answer.json()["details"]
    assert not Task.objects.exists()


def test_wrong_values_are_refused_in_the_envelope(
    as_alice: APIClient, repository: Repository
) -> None:
    answer = as_alice.post(ENVELOPE, {"type": "debug", "prompt": "x", "repositoryId": "mine"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (answer.json()["success"], error["code"]) == (False, "VALIDATION_ERROR")
    assert "repositoryId" in error["details"]


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"type": "ask", "prompt": "x" * 32_001}, 413, "PAYLOAD_TOO_LARGE"),
        ({"type": "architect"}, 503, "SERVICE_UNAVAILABLE"),
        ({"type": "architect", "model": "builtin"}, 400, "VALIDATION_ERROR"),
        ({"model": "nobody"}, 404, "RESOURCE_NOT_FOUND"),
        ({"ai_model_id": NOBODYS}, 404, "RESOURCE_NOT_FOUND"),
        ({"repository_id": NOBODYS}, 404, "RESOURCE_NOT_FOUND"),
        ({"repository_id": None}, 400, "VALIDATION_ERROR"),
        ({"branch": "--upload-pack=x"}, 400, "VALIDATION_ERROR"),
        ({"patch": "x"}, 400, "VALIDATION_ERROR"),
    ],
)
def test_what_cannot_be_done_is_refused_before_credit_is_held(
    as_alice: APIClient,
    alice: User,
    repository: Repository,
    values: dict[str, Any],
    status: int,
    code: str,
) -> None:
    answer = as_alice.post(PLAIN, body(repository, **values))
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()
    assert not Task.objects.exists()
    assert ledger.balance(alice.pk).held == 0


def test_too_few_credits_is_402_and_says_how_many(
    as_alice: APIClient, alice: User, repository: Repository, settings: Any
) -> None:
    from aimodels.tests.make import make_model

    settings.CLAUDE_API_KEY = "sk-platform-0123456789"
    make_model("dear")
    answer = as_alice.post(PLAIN, body(repository))
    assert (answer.status_code, answer.json()["code"]) == (402, "INSUFFICIENT_CREDITS")
    assert answer.json()["details"]["balance"] == 0
    assert answer.json()["details"]["needed"] > 0
    assert not Task.objects.exists()
    ledger.grant(user_id=alice.pk, microcredits=10**9, reference="test")
    answer = as_alice.post(PLAIN, body(repository))
    assert answer.status_code == 201
    assert answer.json()["estimated_credits"] >= 1
    assert ledger.balance(alice.pk).held > 0


def test_anothers_repository_and_model_do_not_exist(
    api: APIClient, mallory: User, repository: Repository, alice: User
) -> None:
    from aimodels.tests.make import make_model

    own = make_model("own", owner=alice, provider="custom", base_url="https://m.example/v1")
    api.force_authenticate(mallory)
    assert api.post(PLAIN, body(repository)).status_code == 404
    mine = make_repository(owner=mallory)
    assert api.post(PLAIN, body(mine, ai_model_id=str(own.pk))).status_code == 404
    assert api.post(PLAIN, body(mine, model="own")).status_code == 404
    assert not Task.objects.exists()


@pytest.mark.parametrize(("level", "status"), [("read", 403), ("write", 201)])
def test_a_shared_repository_takes_tasks_of_writers_only(
    api: APIClient, mallory: User, repository: Repository, level: str, status: int
) -> None:
    RepositoryAccess.objects.create(repository=repository, user=mallory, level=level)
    api.force_authenticate(mallory)
    assert api.post(PLAIN, body(repository)).status_code == status


def test_the_same_key_and_body_is_the_same_task(
    as_alice: APIClient, repository: Repository
) -> None:
    first = as_alice.post(PLAIN, body(repository), headers={"Idempotency-Key": "a-1"})
    again = as_alice.post(PLAIN, body(repository), headers={"Idempotency-Key": "a-1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert Task.objects.count() == 1


def test_the_same_key_with_another_body_is_409(as_alice: APIClient, repository: Repository) -> None:
    as_alice.post(PLAIN, body(repository), headers={"Idempotency-Key": "a-1"})
    answer = as_alice.post(
        PLAIN, body(repository, prompt="Other"), headers={"Idempotency-Key": "a-1"}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")


def test_a_key_belongs_to_its_user(
    api: APIClient, as_alice: APIClient, mallory: User, repository: Repository
) -> None:
    first = as_alice.post(PLAIN, body(repository), headers={"Idempotency-Key": "a-1"})
    api.force_authenticate(mallory)
    other = api.post(
        PLAIN, body(make_repository(owner=mallory)), headers={"Idempotency-Key": "a-1"}
    )
    assert (first.status_code, other.status_code) == (201, 201)


@pytest.mark.parametrize("key", ["", "k" * 201, "with blank"])
def test_a_key_that_is_none_is_refused(
    as_alice: APIClient, repository: Repository, key: str
) -> None:
    answer = as_alice.post(PLAIN, body(repository), headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert not Task.objects.exists()


def test_a_build_needs_no_repository_but_files_with_safe_paths(
    as_alice: APIClient, settings: Any, alice: User
) -> None:
    from aimodels.tests.make import make_model

    settings.CLAUDE_API_KEY = "sk-platform-0123456789"
    make_model("fit")
    ledger.grant(user_id=alice.pk, microcredits=10**9, reference="test")
    given = {"type": "build", "prompt": "Make it", "files": [{"path": "a.py", "content": "x\n"}]}
    assert as_alice.post(PLAIN, given).status_code == 201
    assert Task.objects.get().files == [{"path": "a.py", "content": "x\n"}]
    given["files"] = [{"path": "../a.py", "content": ""}]
    assert as_alice.post(PLAIN, given).status_code == 400


def test_the_models_of_the_catalogue_can_do_every_type() -> None:
    from aimodels.models import TASK_TYPES
    from tasks.models import TaskType

    assert sorted(TASK_TYPES) == sorted(TaskType.values)
