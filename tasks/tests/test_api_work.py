"""What /api/build and /api/analysis have in common: who may look, who may start, what a page costs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts import keys
from accounts.models import User
from repositories.models import Repository, RepositoryAccess
from tasks.models import Task
from tasks.tests import test_api_analyses as analyses
from tasks.tests import test_api_builds as builds
from tasks.tests.make import make_model, make_repository, make_task


@dataclass(frozen=True)
class Work:
    """One of the two, with an owner's finished row of it."""

    name: str
    route: str
    plural: str
    example: dict[str, Any]
    finished: Callable[..., Task]

    def __str__(self) -> str:
        return self.name


BUILD = Work("build", builds.ROUTE, "builds", builds.EXAMPLE, builds.make_finished)
ANALYSIS = Work(
    "analysis", analyses.ROUTE, "analyses", analyses.EXAMPLE, analyses.make_finished
)  # fmt: skip
BOTH = pytest.mark.parametrize("work", [BUILD, ANALYSIS], ids=str)
NONE = uuid.UUID(int=1)


@pytest.fixture(autouse=True)
def repository(alice: User, settings: Any) -> Repository:
    """What both examples name, and models for both."""
    settings.OPENAI_API_KEY = "sk-platform-key"
    make_model()
    make_model(provider="openai", name="scripted", context_window=100_000)
    return make_repository(owner=alice, name="my-project")


@BOTH
def test_anonymous_gets_401(api: APIClient, work: Work) -> None:
    answers = [
        api.get(f"{work.route}/{NONE}"),
        api.delete(f"{BUILD.route}/{NONE}"),
        api.get(f"{work.route}/"),
        api.post(f"{work.route}/", work.example),
    ]
    found = {(answer.status_code, answer.json()["code"]) for answer in answers}
    assert found == {(401, "UNAUTHORIZED")}
    assert not Task.objects.exists()


@BOTH
def test_a_strangers_is_403_and_none_is_404(
    alice_api: APIClient, mallory_api: APIClient, alice: User, work: Work
) -> None:
    path = f"{work.route}/{work.finished(alice).pk}"
    refused = mallory_api.get(path)
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    assert "my-project" not in refused.content.decode()
    missing = mallory_api.get(f"{work.route}/{NONE}")
    assert (missing.status_code, missing.json()["code"]) == (404, "RESOURCE_NOT_FOUND")
    assert alice_api.get(path).status_code == 200


def test_a_stranger_cancels_no_build(mallory_api: APIClient, alice: User) -> None:
    path = f"{BUILD.route}/{builds.make_build(alice).pk}"
    assert mallory_api.delete(path).status_code == 403
    assert mallory_api.delete(f"{BUILD.route}/{NONE}").status_code == 404
    assert Task.objects.get().status == "pending"


@BOTH
def test_a_task_of_another_type_is_404(
    alice_api: APIClient, mallory_api: APIClient, alice: User, work: Work
) -> None:
    task = make_task(owner=alice, type="debug")
    for client in (alice_api, mallory_api):
        assert client.get(f"{work.route}/{task.pk}").status_code == 404


@BOTH
def test_a_stranger_lists_nothing(mallory_api: APIClient, alice: User, work: Work) -> None:
    work.finished(alice)
    nothing = {"total": 0, "limit": 20, "offset": 0, work.plural: []}
    assert mallory_api.get(f"{work.route}/").json() == nothing


@BOTH
def test_a_viewer_reads_what_is_shared_and_changes_nothing(
    victor_api: APIClient, victor: User, alice: User, repository: Repository, work: Work
) -> None:
    path = f"{work.route}/{work.finished(alice, repository=repository).pk}"
    RepositoryAccess.objects.create(repository=repository, user=victor, level="write")
    assert victor_api.get(path).status_code == 200
    body = work.example | {"repository_id": str(repository.pk)}
    assert victor_api.post(f"{work.route}/", body).status_code == 403
    assert victor_api.delete(path).status_code in (403, 405)
    assert (Task.objects.count(), Repository.objects.count()) == (1, 1)


@BOTH
@pytest.mark.parametrize(
    ("verbs", "expected"),
    [(["read"], (200, 403)), (["create"], (403, 202)), (["read", "create"], (200, 202))],
)
def test_a_key_opens_what_its_scopes_name(
    api: APIClient, alice: User, work: Work, verbs: list[str], expected: tuple[int, int]
) -> None:
    scopes = [f"{work.name}:{verb}" for verb in verbs]
    api.credentials(HTTP_X_API_KEY=keys.create(user=alice, name="k", scopes=scopes)[1])
    path = f"{work.route}/{work.finished(alice).pk}"
    found = (api.get(path).status_code, api.post(f"{work.route}/", work.example).status_code)
    assert found == expected


@BOTH
def test_a_key_for_other_work_opens_nothing(api: APIClient, alice: User, work: Work) -> None:
    other = ANALYSIS if work is BUILD else BUILD
    scopes = [f"{name}:{verb}" for name in ("task", other.name) for verb in ("read", "create")]
    scopes.append("task:cancel")
    api.credentials(HTTP_X_API_KEY=keys.create(user=alice, name="k", scopes=scopes)[1])
    path = f"{work.route}/{work.finished(alice).pk}"
    assert api.get(path).status_code == 403
    assert api.post(f"{work.route}/", work.example).status_code == 403
    assert api.delete(path).status_code in (403, 405)


@pytest.mark.parametrize(("scope", "status"), [("build:read", 403), ("build:cancel", 200)])
def test_a_key_cancels_by_its_own_scope(
    api: APIClient, alice: User, scope: str, status: int
) -> None:
    api.credentials(HTTP_X_API_KEY=keys.create(user=alice, name="k", scopes=[scope])[1])
    assert api.delete(f"{BUILD.route}/{builds.make_build(alice).pk}").status_code == status


@BOTH
def test_a_page_takes_three_queries(
    api: APIClient, alice: User, work: Work, django_assert_num_queries: Any
) -> None:
    api.force_authenticate(alice)
    for _ in range(4):
        work.finished(alice)
    with django_assert_num_queries(3):
        assert len(api.get(f"{work.route}/").json()[work.plural]) == 4
