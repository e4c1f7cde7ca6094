"""The pages of repositories and their admin."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client

from accounts.models import User
from repositories.models import Repository, RepositoryAccess
from repositories.tests.make import make_upstream
from repositories.tests.rows import make_repository

ADD = "/repositories/add/"


@pytest.fixture
def local(tmp_path: Path, settings: LazySettings) -> Path:
    settings.LOCAL_REPOSITORIES = [str(tmp_path)]
    return make_upstream(tmp_path / "shop")


def test_owner_connects_and_sees_it(alice: User, page: Client, local: Path) -> None:
    page.force_login(alice)
    assert page.get(ADD).status_code == 200
    answer = page.post(ADD, {"url": str(local)})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/repositories/")
    assert b"shop is connected." in page.get("/repositories/").content
    assert Repository.objects.get().owner == alice


def test_mistake_is_shown_at_its_field_and_the_token_is_not(alice: User, page: Client) -> None:
    page.force_login(alice)
    answer = page.post(ADD, {"url": "http://127.0.0.1/x/y", "token": "canary-token"})
    assert answer.status_code == 422
    assert b"Only https addresses may be used." in answer.content
    assert b"canary-token" not in answer.content
    assert page.post(ADD, {}).status_code == 422


def test_list_shows_only_what_is_visible(alice: User, mallory: User, page: Client) -> None:
    make_repository(alice, name="mine", sync_error="<b>broken</b>")
    make_repository(mallory, name="foreign")
    page.force_login(alice)
    text = page.get("/repositories/").content
    assert b"acme/mine" in text
    assert b"foreign" not in text
    assert b"<b>broken" not in text


def test_owner_disconnects(alice: User, page: Client) -> None:
    repository = make_repository(alice)
    page.force_login(alice)
    asked = page.get(f"/repositories/{repository.pk}/remove/").content
    assert b"so does the repository itself" in asked
    repository.refresh_from_db()
    assert repository.is_active, "asking changes nothing"
    page.post(f"/repositories/{repository.pk}/remove/")
    repository.refresh_from_db()
    assert not repository.is_active


def test_a_project_that_exists_only_here_is_deleted_by_its_name(alice: User, page: Client) -> None:
    project = make_repository(alice, kind="hosted", full_name="shop", url="", hosted_bundle="x")
    page.force_login(alice)
    path = f"/repositories/{project.pk}/remove/"
    assert f'href="{path}"' in page.get("/repositories/").content.decode()
    for answer in (page.get(path), page.post(path), page.post(path, {"name": "other"})):
        shown = answer.content.decode()
        assert "deletes shop with all its branches and commits for good" in shown
        assert f'href="/api/v1/repositories/{project.pk}/bundle"' in shown
    project.refresh_from_db()
    assert project.is_active
    assert page.post(path, {"name": "shop"})["Location"] == "/repositories/"
    project.refresh_from_db()
    assert not project.is_active


def test_stranger_gets_404(alice: User, mallory: User, page: Client) -> None:
    repository = make_repository(alice)
    page.force_login(mallory)
    for send in (page.get, page.post):
        assert send(f"/repositories/{repository.pk}/remove/").status_code == 404


def test_viewer_only_looks(alice: User, victor: User, page: Client) -> None:
    repository = make_repository(alice)
    RepositoryAccess.objects.create(repository=repository, user=victor)
    page.force_login(victor)
    text = page.get("/repositories/").content
    assert b"acme/app" in text
    assert b"Disconnect" not in text
    assert page.get(ADD).status_code == 403
    for send in (page.get, page.post):
        assert send(f"/repositories/{repository.pk}/remove/").status_code == 403


@pytest.mark.parametrize("path", ["/repositories/", ADD])
def test_nobody_is_sent_to_sign_in(db: None, page: Client, path: str) -> None:
    answer = page.get(path)
    assert answer.status_code == 302
    assert "sign-in" in answer.headers["Location"]


def test_admin_lists_without_secrets(alice: User, staff: User, page: Client) -> None:
    repository = make_repository(alice, sealed_credential="v1:own:canary-sealed")
    page.force_login(staff)
    for path in ("repository/", f"repository/{repository.pk}/change/", "repositoryaccess/"):
        answer = page.get(f"/admin/repositories/{path}")
        assert answer.status_code == 200
        assert b"canary-sealed" not in answer.content
    assert page.get("/admin/repositories/repository/add/").status_code == 403


def test_admin_action_disconnects(alice: User, staff: User, page: Client) -> None:
    repository = make_repository(alice, sealed_credential="v1:own:x")
    page.force_login(staff)
    page.post(
        "/admin/repositories/repository/",
        {"action": "disconnect", "_selected_action": [str(repository.pk)]},
    )
    repository.refresh_from_db()
    assert (repository.is_active, repository.sealed_credential) == (False, "")
