"""Repositories that the platform hosts: what is published is there, on every machine, once."""

from __future__ import annotations

import io
import random
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.storage import storages
from django.db import connection
from django.test import AsyncClient
from rest_framework.test import APIClient

from accounts.models import User
from asynccoder.lib.errors import Conflict, NotAllowed, NotFound
from repositories import connect, git, hosted
from repositories.errors import BranchNotTaken, GitBroke, HostingAway, NameRefused, OverSize
from repositories.models import Repository, RepositoryAccess
from repositories.tests.make import plain_git
from repositories.tests.projects import bundles, make_work, publish, tip
from repositories.tests.rows import make_repository


@pytest.fixture
def project(alice: User) -> Repository:
    return hosted.create(alice, "shop")


def cloned(repository: Repository, folder: Path) -> Path:
    """Clone the downloaded bundle as its owner would."""
    path = folder / "download.bundle"
    with hosted.open_bundle(repository) as file:
        path.write_bytes(file.read())
    plain_git("clone", "-q", str(path), "clone", cwd=folder)
    return folder / "clone"


def test_a_new_project_is_one_empty_commit(project: Repository) -> None:
    assert git.list_tree(connect.mirror_path(project), tip(project)) == []
    assert [branch.name for branch in connect.branches_of(project)] == ["main"]


def test_what_is_published_is_cloned_and_built_upon(project: Repository, tmp_path: Path) -> None:
    first = make_work(project, tmp_path, {"a.txt": "one\n"})
    assert publish(project, first) == "main"
    second = make_work(project, tmp_path, {"b.txt": "two\n"})
    assert second.base == first.commit
    assert publish(project, second) == "main"
    clone = cloned(project, tmp_path)
    assert plain_git("branch", "--show-current", cwd=clone) == "main"
    assert (clone / "a.txt").read_text() + (clone / "b.txt").read_text() == "one\ntwo\n"
    assert len(bundles()) == 1, "a bundle that no row names is not kept"


def test_another_machine_sees_it(project: Repository, tmp_path: Path) -> None:
    work = make_work(project, tmp_path, {"a.txt": "one\n"})
    publish(project, work)
    shutil.rmtree(connect.mirror_path(project).parent)
    assert tip(project) == work.commit


def test_who_comes_second_keeps_a_branch(project: Repository, tmp_path: Path) -> None:
    first = make_work(project, tmp_path, {"a.txt": "one\n"})
    second = make_work(project, tmp_path, {"a.txt": "other\n"})
    assert publish(project, first) == "main"
    assert publish(project, second) == second.branch
    assert tip(project) == first.commit
    assert tip(project, second.branch) == second.commit


def test_publishing_again_changes_nothing(project: Repository, tmp_path: Path) -> None:
    first = make_work(project, tmp_path, {"a.txt": "one\n"})
    publish(project, first)
    before = bundles()
    assert publish(project, first) == "main"
    assert bundles() == before
    publish(project, make_work(project, tmp_path, {"b.txt": "two\n"}))
    assert publish(project, first) == "main", "main has moved on and holds it"
    assert [branch.name for branch in connect.branches_of(project)] == ["main"]


def test_a_lost_race_begins_again(
    project: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task publishes between the look and the row; nothing of it is lost."""
    ours = make_work(project, tmp_path, {"a.txt": "ours\n"})
    theirs = make_work(project, tmp_path, {"b.txt": "theirs\n"})
    write = hosted._write

    def overtaken(*arguments: Any) -> str:
        monkeypatch.setattr(hosted, "_write", write)
        name = write(*arguments)
        publish(Repository.objects.get(pk=project.pk), theirs)
        return name

    monkeypatch.setattr(hosted, "_write", overtaken)
    assert publish(project, ours) == ours.branch
    assert (tip(project), tip(project, ours.branch)) == (theirs.commit, ours.commit)
    assert len(bundles()) == 1


def test_a_bundle_that_is_replaced_while_it_is_read_is_read_anew(
    project: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(project, make_work(project, tmp_path, {"a.txt": "one\n"}))
    newer = make_work(project, tmp_path, {"b.txt": "two\n"})
    (connect.mirror_path(project) / hosted.NOTE).unlink()
    copy = hosted._local_copy

    def overtaken(name: str, beside: Path) -> Any:
        monkeypatch.setattr(hosted, "_local_copy", copy)
        there = tmp_path / "another-machine" / "mirror.git"
        hosted.publish(Repository.objects.get(pk=project.pk), there, newer)
        return copy(name, beside)

    monkeypatch.setattr(hosted, "_local_copy", overtaken)
    assert tip(project) == newer.commit


def test_a_lost_bundle_is_a_storage_that_is_away(project: Repository, tmp_path: Path) -> None:
    publish(project, make_work(project, tmp_path, {"a.txt": "one\n"}))
    for path in bundles():
        path.unlink()
    for read in (connect.sync_repository, hosted.open_bundle):
        with pytest.raises(HostingAway):
            read(project)


def test_a_storage_that_takes_nothing_leaves_the_row(
    project: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_work(project, tmp_path, {"a.txt": "one\n"})
    folder = Path(storages["runs"].location) / "hosted"  # type: ignore[attr-defined] # a folder in tests
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")
    with pytest.raises(HostingAway):
        publish(project, work)
    project.refresh_from_db()
    assert project.hosted_bundle == ""
    folder.unlink()
    assert publish(project, work) == "main"


def test_a_project_over_the_limit_is_not_taken(
    project: Repository, tmp_path: Path, settings: Any
) -> None:
    small = make_work(project, tmp_path, {"a.txt": "one\n"})
    publish(project, small)
    settings.REPOSITORY_MAX_BYTES = 500_000
    noise = random.Random(1).randbytes(1_000_000).hex()
    large = make_work(project, tmp_path, {"b.txt": noise})
    with pytest.raises((OverSize, GitBroke)):
        publish(project, large)
    assert tip(project) == small.commit


def test_a_disconnected_project_is_gone_and_its_name_free(
    project: Repository,
    alice: User,
    tmp_path: Path,
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    publish(project, make_work(project, tmp_path, {"a.txt": "one\n"}))
    late = make_work(project, tmp_path, {"b.txt": "two\n"})
    with django_capture_on_commit_callbacks(execute=True):
        connect.disconnect_repository(Repository.objects.get(pk=project.pk))
    assert bundles() == []
    project.hosted_bundle = ""
    Repository.objects.filter(pk=project.pk).update(hosted_bundle="")
    with pytest.raises(BranchNotTaken):
        publish(project, late)
    assert bundles() == []
    assert hosted.create(alice, "shop").pk != project.pk


def test_names_find_the_users_own(alice: User, mallory: User, project: Repository) -> None:
    assert hosted.named(alice, "shop") == project
    assert hosted.named(mallory, "shop") is None
    make_repository(alice, name="site", full_name="acme/site")
    make_repository(alice, name="site", full_name="umbrella/site")
    with pytest.raises(Conflict):
        hosted.named(alice, "site")
    exact = make_repository(alice, name="site", full_name="site")
    assert hosted.named(alice, "site") == exact
    with pytest.raises(NameRefused):
        hosted.named(alice, "../site")


def test_a_viewer_hosts_nothing(victor: User) -> None:
    with pytest.raises(NotAllowed):
        hosted.create(victor, "shop")


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_two_at_once_make_one_project(alice: User) -> None:
    def make(_: int) -> Any:
        try:
            return hosted.create(alice, "shop").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(make, range(4)))) == 1
    assert Repository.objects.count() == 1


# --- Downloads ----------------------------------------------------------------------------------


def route(repository: Repository, kind: str) -> str:
    return f"/api/v1/repositories/{repository.pk}/{kind}"


@pytest.fixture
def published(project: Repository, tmp_path: Path) -> Repository:
    publish(project, make_work(project, tmp_path, {"src/a.py": "one\n", "ä.txt": "two\n"}))
    return project


@pytest.mark.parametrize("kind", ["bundle", "zip"])
def test_downloads_are_for_those_who_may_look(
    published: Repository,
    kind: str,
    api: APIClient,
    alice_api: APIClient,
    mallory_api: APIClient,
    victor_api: APIClient,
    victor: User,
) -> None:
    def status(client: APIClient) -> int:
        answer = client.get(route(published, kind))
        if answer.streaming:
            assert content(answer)
        return int(answer.status_code)

    assert (status(api), status(mallory_api), status(victor_api)) == (401, 404, 404)
    RepositoryAccess.objects.create(repository=published, user=victor)
    assert (status(victor_api), status(alice_api)) == (200, 200)


def content(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_the_bundle_is_a_file_to_clone_from(
    published: Repository, alice_api: APIClient, tmp_path: Path
) -> None:
    shown = alice_api.get(f"/api/v1/repositories/{published.pk}").json()
    answer = alice_api.get(shown["bundle_url"])
    assert answer["Content-Disposition"] == 'attachment; filename="shop.bundle"'
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    (tmp_path / "shop.bundle").write_bytes(content(answer))
    plain_git("clone", "-q", "shop.bundle", "shop", cwd=tmp_path)
    assert (tmp_path / "shop" / "src" / "a.py").read_text() == "one\n"


def test_the_zip_holds_the_files(published: Repository, alice_api: APIClient) -> None:
    shown = alice_api.get(f"/api/v1/repositories/{published.pk}").json()
    answer = alice_api.get(shown["zip_url"])
    assert answer["Content-Disposition"] == 'attachment; filename="shop.zip"'
    with zipfile.ZipFile(io.BytesIO(content(answer))) as found:
        files = {name: found.read(name).decode() for name in found.namelist() if name[-1] != "/"}
    assert files == {"shop/src/a.py": "one\n", "shop/ä.txt": "two\n"}


@pytest.mark.django_db(transaction=True)
def test_a_download_is_served_in_pieces_under_asgi(published: Repository, alice: User) -> None:
    async def read() -> bytes:
        client = AsyncClient()
        await client.aforce_login(alice)
        answer: Any = await client.get(route(published, "zip"))
        return b"".join([piece async for piece in answer.streaming_content])

    whole = async_to_sync(read)()
    assert zipfile.ZipFile(io.BytesIO(whole)).testzip() is None


@pytest.mark.parametrize("kind", ["bundle", "zip"])
def test_there_is_nothing_to_fetch_before_the_first_build(
    project: Repository, alice_api: APIClient, kind: str
) -> None:
    assert alice_api.get(route(project, kind)).status_code == 404
    assert alice_api.get(f"/api/v1/repositories/{project.pk}").json()[f"{kind}_url"] is None


@pytest.mark.parametrize("kind", ["bundle", "zip"])
def test_what_is_hosted_elsewhere_is_fetched_there(
    alice: User, alice_api: APIClient, kind: str
) -> None:
    answer = alice_api.get(route(make_repository(alice), kind))
    assert (answer.status_code, "elsewhere" in answer.json()["message"]) == (404, True)


def test_opening_before_the_first_build_is_not_found(project: Repository, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        hosted.open_bundle(project)
    with pytest.raises(NotFound):
        hosted.open_zip(project, connect.mirror_path(project))
