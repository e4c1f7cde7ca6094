"""Repositories over both dialects: owner, stranger, viewer, administrator, nobody."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from rest_framework.test import APIClient

from accounts.models import User
from repositories.models import Repository, RepositoryAccess
from repositories.tests.git_server import GitServer, serving
from repositories.tests.make import make_upstream, plain_git
from repositories.tests.rows import make_repository

PLAIN, ENVELOPE = "/api/v1/repositories", "/api/repositories"


@pytest.fixture
def server(tmp_path: Path, settings: LazySettings) -> Iterator[GitServer]:
    make_upstream(tmp_path / "work")
    bare = str(tmp_path / "served/acme/app.git")
    plain_git("clone", "-q", "--bare", str(tmp_path / "work"), bare, cwd=tmp_path)
    with serving(tmp_path / "served") as served:
        settings.OUTBOUND_ALLOWED = [served.address]
        yield served


def test_connect_and_show(alice_api: APIClient, server: GitServer) -> None:
    server.password = "canary-token"
    body = {"url": server.url("acme/app.git"), "token": "canary-token"}
    answer = alice_api.post(PLAIN, body)
    assert answer.status_code == 201
    assert answer.json()["full_name"] == "acme/app"
    assert answer.json()["has_credential"] is True
    shown = alice_api.get(f"{PLAIN}/{answer.json()['id']}/")
    assert shown.json() == answer.json()
    assert b"canary-token" not in answer.content + shown.content


def test_connect_says_what_is_wrong(alice_api: APIClient, server: GitServer) -> None:
    server.password = "other"
    answer = alice_api.post(PLAIN, {"url": server.url("acme/app.git"), "token": "canary-token"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "VALIDATION_ERROR"
    assert answer.json()["details"] == {"field": "url", "reason": "authentication_failed"}
    assert b"canary-token" not in answer.content
    for body in ({}, {"url": "https://127.0.0.1/x/y"}, {"url": "/etc"}, {"url": ["x"]}):
        assert alice_api.post(PLAIN, body).status_code == 400


def test_connect_takes_no_other_field(
    alice_api: APIClient, mallory: User, server: GitServer
) -> None:
    extra = {
        "owner": str(mallory.pk),
        "is_active": False,
        "kind": "local",
        "sealed_credential": "x",
        "size_bytes": 5,
        "id": str(uuid.uuid4()),
    }
    answer = alice_api.post(PLAIN, {"url": server.url("acme/app.git"), **extra})
    repository = Repository.objects.get()
    assert answer.status_code == 201
    assert (repository.owner.username, repository.kind) == ("alice", "git")
    assert (repository.is_active, repository.sealed_credential, repository.size_bytes) == (
        True,
        "",
        0,
    )


def test_list_pages_and_search(alice: User, alice_api: APIClient, mallory: User) -> None:
    for name in ("one", "two", "three"):
        make_repository(alice, name=name)
    make_repository(mallory, name="two-of-mallory")
    make_repository(alice, name="gone", is_active=False)
    plain = alice_api.get(PLAIN, {"limit": 2}).json()
    assert (plain["total"], len(plain["repositories"])) == (3, 2)
    envelope = alice_api.get(ENVELOPE, {"search": "TWO"}).json()
    assert envelope["meta"]["total"] == 1
    first = envelope["data"]["repositories"][0]
    assert first["fullName"] == "acme/two"
    seed = {"id", "githubId", "name", "fullName", "description", "isPrivate", "defaultBranch"}
    assert seed | {"language", "url", "isActive", "createdAt"} <= first.keys()


def test_list_asks_few_questions(
    alice: User, alice_api: APIClient, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        make_repository(alice, name=f"r{number}")
    with django_assert_max_num_queries(5):
        assert alice_api.get(PLAIN).json()["total"] == 20


@pytest.mark.parametrize("prefix", [PLAIN, ENVELOPE])
def test_branches(alice_api: APIClient, server: GitServer, prefix: str) -> None:
    pk = alice_api.post(PLAIN, {"url": server.url("acme/app.git")}).json()["id"]
    body = alice_api.get(f"{prefix}/{pk}/branches").json()
    branches = body["data"]["branches"] if prefix == ENVELOPE else body["branches"]
    head = plain_git("rev-parse", "main", cwd=server.root / "acme/app.git")
    assert branches[0]["name"] == "main"
    assert branches[0]["commit"] == {"sha": head, "url": ""}
    assert branches[0]["protected"] is False


def test_disconnect(alice_api: APIClient, server: GitServer) -> None:
    pk = alice_api.post(PLAIN, {"url": server.url("acme/app.git")}).json()["id"]
    assert alice_api.delete(f"{PLAIN}/{pk}").status_code == 204
    assert alice_api.get(f"{PLAIN}/{pk}").status_code == 404
    assert alice_api.delete(f"{PLAIN}/{pk}").status_code == 404


ROUTES = [
    ("get", PLAIN + "/{}"),
    ("delete", PLAIN + "/{}"),
    ("get", PLAIN + "/{}/branches"),
    ("get", ENVELOPE + "/{}/branches"),
]
LISTS = [("get", PLAIN), ("post", PLAIN), ("get", ENVELOPE)]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_stranger_gets_404_as_for_none(
    alice: User, mallory_api: APIClient, method: str, path: str
) -> None:
    repository = make_repository(alice)
    foreign = getattr(mallory_api, method)(path.format(repository.pk))
    absent = getattr(mallory_api, method)(path.format(uuid.uuid4()))
    assert (foreign.status_code, absent.status_code) == (404, 404)
    repository.refresh_from_db()
    assert repository.is_active


@pytest.mark.parametrize(("method", "path"), [*ROUTES, *LISTS])
def test_nobody_gets_401(alice: User, api: APIClient, method: str, path: str) -> None:
    assert getattr(api, method)(path.format(make_repository(alice).pk)).status_code == 401


def test_viewer_reads_what_is_shared_and_changes_nothing(
    alice: User, victor: User, victor_api: APIClient
) -> None:
    repository = make_repository(alice)
    RepositoryAccess.objects.create(repository=repository, user=victor)
    assert victor_api.get(f"{PLAIN}/{repository.pk}").status_code == 200
    assert victor_api.get(PLAIN).json()["total"] == 1
    assert victor_api.delete(f"{PLAIN}/{repository.pk}").status_code == 403
    assert victor_api.post(PLAIN, {"url": "https://github.com/x/y"}).status_code == 403


def test_shared_repository_is_not_the_readers_to_disconnect(
    alice: User, mallory: User, mallory_api: APIClient
) -> None:
    repository = make_repository(alice)
    RepositoryAccess.objects.create(repository=repository, user=mallory, level="write")
    assert mallory_api.delete(f"{PLAIN}/{repository.pk}").status_code == 403


def test_administrator_sees_and_disconnects_all(alice: User, staff_api: APIClient) -> None:
    repository = make_repository(alice)
    assert staff_api.get(PLAIN).json()["total"] == 1
    assert staff_api.delete(f"{PLAIN}/{repository.pk}").status_code == 204
