"""Mirrors of hosted projects: never set back, brought once, and in nobody's way for long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import call_command
from django.db import connection
from rest_framework.test import APIClient

from accounts.models import User
from asynccoder.tests.processes import wait_for
from repositories import connect, git, hosted
from repositories.api import views
from repositories.git import mirror as mirrors
from repositories.models import Repository
from repositories.tests.projects import bundles, make_work, publish, tip

HOUR = 3600


@pytest.fixture
def project(alice: User) -> Repository:
    return hosted.create(alice, "shop")


def mirrored(repository: Repository) -> dict[str, str]:
    """Return what the mirror says as it is, without bringing it up to date."""
    found = git.list_branches(connect.mirror_path(repository))
    return {branch.name: branch.commit for branch in found}


@pytest.mark.django_db(transaction=True)
def test_who_reads_an_older_bundle_does_not_set_the_mirror_back(
    project: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task of this machine publishes, and fetches that, while a bundle is being copied."""
    publish(project, make_work(project, tmp_path, {"a.txt": "one\n"}))
    newer = make_work(project, tmp_path, {"b.txt": "two\n"})
    (connect.mirror_path(project) / hosted.NOTE).unlink()
    waits, local_copy, take = threading.Event(), hosted._local_copy, mirrors._take

    def taken(descriptor: int) -> bool:
        if take(descriptor):
            return True
        waits.set()
        return False

    def run() -> None:
        try:
            mine = Repository.objects.get(pk=project.pk)
            publish(mine, newer)
            connect.sync_repository(mine)
        finally:
            connection.close()

    other = threading.Thread(target=run)

    @contextmanager
    def overtaken(*arguments: Any) -> Iterator[Path]:
        monkeypatch.setattr(hosted, "_local_copy", local_copy)
        with local_copy(*arguments) as path:
            other.start()
            wait_for(lambda: waits.is_set() or not other.is_alive(), what="it is done or waits")
            yield path

    monkeypatch.setattr(hosted, "_local_copy", overtaken)
    monkeypatch.setattr(mirrors, "_take", taken)
    connect.sync_repository(project)
    other.join()
    assert mirrored(project)["main"] == newer.commit


@pytest.mark.django_db(transaction=True)
@pytest.mark.services
def test_of_many_who_publish_at_once_none_loses_a_commit(
    project: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "TRIES", 50)
    works = [make_work(project, tmp_path, {f"{name}.txt": name}) for name in "abcdef"]

    def run(work: hosted.Work) -> str:
        try:
            return publish(Repository.objects.get(pk=project.pk), work)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        taken = list(pool.map(run, works))
    tip(project)
    found = mirrored(project)
    assert {name: found[name] for name in taken} == {
        name: work.commit for name, work in zip(taken, works, strict=True)
    }
    assert taken.count("main") == 1


def test_a_bundle_is_copied_once_and_never_to_the_systems_folder(
    project: Repository,
    tmp_path: Path,
    alice_api: APIClient,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = make_work(project, tmp_path, {"a.txt": "one\n"})
    publish(project, work)
    copies: list[Path] = []
    local_copy = hosted._local_copy

    @contextmanager
    def noted(*arguments: Any) -> Iterator[Path]:
        with local_copy(*arguments) as path:
            copies.append(path)
            yield path

    monkeypatch.setattr(hosted, "_local_copy", noted)
    for _ in range(2):
        shown = alice_api.get(f"/api/v1/repositories/{project.pk}/branches").json()
        assert [one["commit"]["sha"] for one in shown["branches"]] == [work.commit]
        zipped: Any = alice_api.get(zip_of(project))
        assert b"".join(zipped.streaming_content)
    assert len(copies) == 1
    assert copies[0].is_relative_to(Path(settings.VAR_DIR))
    assert list((Path(settings.VAR_DIR) / hosted.ZIPS).iterdir()) == []


def zip_of(repository: Repository) -> str:
    return f"/api/v1/repositories/{repository.pk}/zip"


@pytest.mark.parametrize("damage", ["HEAD", "objects"])
def test_a_mirror_that_cannot_be_read_is_brought_anew(
    project: Repository, tmp_path: Path, damage: str
) -> None:
    work = make_work(project, tmp_path, {"a.txt": "one\n"})
    publish(project, work)
    assert tip(project) == work.commit
    (connect.mirror_path(project) / damage).rename(tmp_path / "moved")
    assert tip(project) == work.commit


def test_a_killed_copy_is_cleared_away_by_the_next(project: Repository, tmp_path: Path) -> None:
    folder = connect.mirror_path(project).parent
    left = folder / f"{hosted.COPY}left"
    left.mkdir(parents=True)
    tip(project)
    assert not left.exists()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/repositories/{}/zip", ["code"]),
        ("/api/v1/repositories/{}/branches", ["code"]),
        ("/api/repositories/{}/branches", ["error", "code"]),
    ],
)
def test_a_request_waits_a_moment_for_another_and_says_so(
    path: str, code: list[str], project: Repository, alice_api: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(hosted, "PAGE_PATIENCE", 0.0)
    with git.locked(connect.mirror_path(project), seconds=1):
        answer = alice_api.get(path.format(project.pk))
    found = answer.json()
    for name in code:
        found = found[name]
    assert (answer.status_code, found, answer["Retry-After"]) == (503, "SERVICE_UNAVAILABLE", "5")


def test_one_user_does_not_hold_all_threads(
    project: Repository, alice: User, alice_api: APIClient, staff_api: APIClient, tmp_path: Path
) -> None:
    publish(project, make_work(project, tmp_path, {"a.txt": "one\n"}))
    branches = f"/api/v1/repositories/{project.pk}/branches"
    for _ in range(views.READS_PER_USER):
        assert views.reads.take(alice.pk, views.READS_PER_USER)
    try:
        for path in (branches, zip_of(project)):
            assert alice_api.get(path).status_code == 429
        assert alice_api.post("/api/v1/repositories/sync", {}).status_code == 429
        assert staff_api.get(branches).status_code == 200
    finally:
        for _ in range(views.READS_PER_USER):
            views.reads.free(alice.pk)
    assert alice_api.get(branches).status_code == 200
    assert not views.reads._open


# --- What is left over --------------------------------------------------------------------------


def age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def leave(repository: Repository, name: str, *, seconds: float) -> Path:
    """Leave a bundle that no row names, as a writer does that is killed before it names it."""
    saved = storages["runs"].save(f"hosted/{repository.pk}/{name}", ContentFile(b"x"))
    path = Path(storages["runs"].path(saved))
    age(path, seconds)
    return path


def test_what_no_row_names_is_swept_after_an_hour(project: Repository, tmp_path: Path) -> None:
    publish(project, make_work(project, tmp_path, {"a.txt": "one\n"}))
    [named] = bundles()
    age(named, 100 * HOUR)
    young = leave(project, "young.bundle", seconds=HOUR - 300)
    leave(project, "old.bundle", seconds=HOUR + 300)
    call_command("sweep")
    assert bundles() == sorted([named, young])


def test_what_was_disconnected_or_deleted_is_swept(
    project: Repository, alice: User, tmp_path: Path
) -> None:
    """The server died after the row and before the file."""
    other = hosted.create(alice, "site")
    for one in (project, other):
        publish(one, make_work(one, tmp_path, {"a.txt": "one\n"}))
    for path in bundles():
        age(path, 2 * HOUR)
    Repository.objects.filter(pk=project.pk).update(is_active=False)
    other.delete()
    assert hosted.sweep() == 2
    assert (bundles(), hosted.sweep()) == ([], 0)


def test_a_zip_that_nobody_finished_is_swept(db: None, settings: LazySettings) -> None:
    zips = Path(settings.VAR_DIR) / hosted.ZIPS
    for name, seconds in (("old", 2 * HOUR), ("young", 0)):
        (zips / name).mkdir(parents=True)
        age(zips / name, seconds)
    assert hosted.sweep() == 1
    assert [path.name for path in zips.iterdir()] == ["young"]


def test_a_storage_that_is_away_is_not_swept(
    project: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave(project, "old.bundle", seconds=2 * HOUR)

    def away(name: str) -> Any:
        raise OSError("away")

    with monkeypatch.context() as patch:
        patch.setattr(storages["runs"], "listdir", away)
        assert hosted.sweep() == 0
    assert path.exists()
    assert hosted.sweep() == 1
