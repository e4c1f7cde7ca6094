"""A task's store is brought to another machine whole, from the storage and upstream, or not at all."""

from __future__ import annotations

import resource
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from repositories import connect, git
from repositories.models import Repository
from tasks import packs, panes, stores
from tasks.errors import RepositoryClosed, StorageAway, WorkspaceLost
from tasks.lease import Claim
from tasks.models import Task, TaskResult
from tasks.tests.make import make_task
from tasks.tests.test_run_in_process import BROKEN, run
from tasks.tests.world import commit_files, run_git
from tasks.workspace import store_path

pytestmark = pytest.mark.django_db(transaction=True)
FILES = [{"path": "app.py", "content": BROKEN}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    commit_files(tmp_path / "project", {"app.py": "def one():\n    return 1\n"})
    # What was pushed would come back with the branches.
    run_git(tmp_path / "project", "config", "receive.hideRefs", "refs/heads/asynccoder")
    return tmp_path / "project"


@pytest.fixture
def repository(alice: User, folder: Path) -> Repository:
    return connect.connect_repository(owner=alice, url=str(folder), is_operator=True)


@pytest.fixture
def task(alice: User, repository: Repository) -> Task:
    """A task that ended with checkpoints and a final commit."""
    task = run(alice, type="documentation", repository=repository, files=FILES)
    assert [one.is_final for one in stores.packed_commits(task)] == [False, False, True]
    return task


@pytest.fixture
def elsewhere(task: Task, tmp_path: Path, settings: Any) -> Path:
    """The folder of another machine, which this process is from now on."""
    settings.VAR_DIR = tmp_path / "elsewhere"
    return tmp_path / "elsewhere"


def pack_of(task: Task, settings: Any, number: int) -> Path:
    kept = stores.packed_commits(task)[number]
    path: Path = settings.RUNS_FOLDER / f"{task.pk}/{kept.generation}-{kept.commit}.pack"
    return path


def everything(store: Path, task: Task) -> tuple[str, bytes]:
    head = stores.newest_commit(task)
    text = git.show_file(store, head, "app.py", max_bytes=10**6) or b""
    return git.diff(store, task.base_commit, head, max_bytes=10**6), text


def test_the_store_is_the_same_on_another_machine(
    task: Task, tmp_path: Path, settings: Any
) -> None:
    before = everything(stores.store_of(task), task)
    settings.VAR_DIR = tmp_path / "elsewhere"
    store = stores.store_of(task)
    assert store.is_relative_to(tmp_path / "elsewhere")
    assert everything(store, task) == before
    assert before[0] == task.result.diff
    assert git.absent_commits(store, [one.commit for one in stores.packed_commits(task)]) == []


def test_a_store_that_is_here_needs_neither_storage_nor_upstream(
    task: Task, folder: Path, settings: Any
) -> None:
    folder.rename(folder.with_name("gone"))
    settings.RUNS_FOLDER.rename(settings.RUNS_FOLDER.with_name("away"))
    assert everything(stores.store_of(task), task)[0] == task.result.diff


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-25] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [remove, cut, empty, alter])
def test_a_harmed_pack_loses_the_workspace_and_nothing_else(
    task: Task, tmp_path: Path, settings: Any, harm: Callable[[Path], None]
) -> None:
    for number in range(3):
        settings.VAR_DIR = tmp_path / f"machine-{number}"
        path = pack_of(task, settings, number)
        whole = path.read_bytes()
        harm(path)
        with pytest.raises(WorkspaceLost, match=path.stem.split("-")[1][:12]):
            stores.store_of(task)
        path.write_bytes(whole)
        assert everything(stores.store_of(task), task)[0] == task.result.diff


@pytest.mark.usefixtures("elsewhere")
def test_the_pack_of_another_commit_is_no_pack_of_this_one(task: Task, settings: Any) -> None:
    first, second = (pack_of(task, settings, number) for number in (0, 1))
    second.write_bytes(first.read_bytes())
    with pytest.raises(WorkspaceLost, match="damaged"):
        stores.store_of(task)


def test_a_final_commit_of_another_tree_is_refused(task: Task) -> None:
    store = stores.store_of(task)
    first, _, final = stores.packed_commits(task)
    pack = git.pack_commit(store, final.commit)
    for facts in ({"tree": first.tree, "parent": task.base_commit}, {"parent": first.commit}):
        with pytest.raises(git.CheckpointBad):
            git.accept_final(store, pack, commit=final.commit, **({"tree": final.tree} | facts))


@pytest.mark.usefixtures("elsewhere")
def test_upstreams_new_history_does_not_matter_while_it_gives_the_old_one_out(
    task: Task, folder: Path
) -> None:
    rewrite(folder)
    assert everything(stores.store_of(task), task)[0] == task.result.diff


@pytest.mark.usefixtures("elsewhere")
def test_a_start_that_upstream_has_forgotten_loses_the_workspace(task: Task, folder: Path) -> None:
    rewrite(folder)
    run_git(folder, "reflog", "expire", "--expire=now", "--all")
    run_git(folder, "gc", "-q", "--prune=now")
    with pytest.raises(WorkspaceLost, match="began with is not in the repository any more"):
        stores.store_of(task)


def rewrite(folder: Path) -> None:
    """Let main be another history, as a force-push does."""
    run_git(folder, "checkout", "-q", "--orphan", "other")
    commit_files(folder, {"app.py": "another history\n"})
    run_git(folder, "branch", "-q", "-M", "other", "main")


@pytest.mark.usefixtures("elsewhere")
def test_a_disconnected_repository_is_not_fetched_again(
    task: Task, repository: Repository, settings: Any
) -> None:
    connect.disconnect_repository(repository)
    task.refresh_from_db()
    with pytest.raises(RepositoryClosed):
        stores.store_of(task)
    assert list(settings.RUNS_FOLDER.iterdir()) == []


def test_a_new_project_is_made_again_from_the_request(
    alice: User, tmp_path: Path, settings: Any
) -> None:
    task = make_task(owner=alice, type="build", repository=None, files=FILES)
    start = stores.make_origin(task)
    settings.VAR_DIR = tmp_path / "elsewhere"
    stores.bring_back(task, {"base": start})
    assert git.absent_commits(stores.mirror_of(task), [start]) == []
    settings.VAR_DIR = tmp_path / "third"
    task.files[0]["content"] += "# changed\n"
    with pytest.raises(WorkspaceLost, match="another start"):
        stores.bring_back(task, {"base": start})


def test_a_patch_makes_the_same_commit_on_another_machine(
    alice: User, repository: Repository, folder: Path, tmp_path: Path, settings: Any
) -> None:
    (folder / "app.py").write_text(BROKEN)
    patch = run_git(folder, "diff")
    run_git(folder, "checkout", "-q", "--", ".")
    task = run(alice, type="pr_review", repository=repository, patch=patch)
    noted = stores.start_of(task)
    settings.VAR_DIR = tmp_path / "elsewhere"
    stores.bring_back(task, noted)
    store = store_path(task.pk)
    assert git.show_file(store, noted["head"], "app.py", max_bytes=1000) == BROKEN.encode()
    settings.VAR_DIR = tmp_path / "third"
    task.patch = patch.replace("JPY", "CHF")
    with pytest.raises(WorkspaceLost, match="another tree"):
        stores.bring_back(task, noted)


# --- pages on a machine of their own ---------------------------------------------------------------


@pytest.mark.usefixtures("elsewhere")
def test_bundle_and_diff_come_from_the_storage_where_there_is_no_store(
    task: Task, alice: User, page: Client, tmp_path: Path
) -> None:
    diff = task.result.diff
    page.force_login(alice)
    answer = page.get(f"/tasks/{task.pk}/bundle/")
    assert answer.status_code == 200
    (tmp_path / "task.bundle").write_bytes(answer.content)
    heads = run_git(tmp_path / "project", "bundle", "list-heads", str(tmp_path / "task.bundle"))
    assert heads.split()[0] == stores.newest_commit(task)
    TaskResult.objects.all().delete()
    assert panes.diff_of(Task.objects.get(pk=task.pk)) == diff


@pytest.mark.usefixtures("elsewhere")
def test_a_page_whose_store_is_lost_says_that_there_is_nothing(
    task: Task, alice: User, page: Client, settings: Any
) -> None:
    pack_of(task, settings, 0).unlink()
    TaskResult.objects.all().delete()
    page.force_login(alice)
    assert page.get(f"/tasks/{task.pk}/bundle/").status_code == 404
    assert panes.diff_of(Task.objects.get(pk=task.pk)) == ""
    assert page.get(f"/tasks/{task.pk}/?tab=changes").status_code == 200


# --- the packs themselves --------------------------------------------------------------------------


def stored(settings: Any, task_id: uuid.UUID) -> list[str]:
    folder = settings.RUNS_FOLDER / str(task_id)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_stale_lease_replaces_nothing(settings: Any) -> None:
    task_id = uuid.uuid4()
    packs.keep(Claim(task_id, 2), "a" * 40, b"of the holder")
    packs.keep(Claim(task_id, 1), "a" * 40, b"of a stale worker")
    packs.keep(Claim(task_id, 2), "a" * 40, b"the same again")
    assert packs.read(Claim(task_id, 2), "a" * 40, most=100) == b"of the holder"
    assert stored(settings, task_id) == [f"1-{'a' * 40}.pack", f"2-{'a' * 40}.pack"]


def test_no_more_is_read_than_a_pack_may_have() -> None:
    claimed = Claim(uuid.uuid4(), 1)
    packs.keep(claimed, "a" * 40, b"x" * 5000)
    assert len(packs.read(claimed, "a" * 40, most=1000)) == 1001


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow past a megabyte: a write then fails half-way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024**2, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_storage_is_waited_for_and_keeps_no_half_pack(settings: Any) -> None:
    claimed = Claim(uuid.uuid4(), 1)
    with full_disk(), pytest.raises(StorageAway):
        packs.keep(claimed, "a" * 40, b"x" * 2 * 1024**2)
    assert stored(settings, claimed.task_id) == []


def test_a_storage_that_cannot_be_read_is_waited_for(settings: Any) -> None:
    claimed = Claim(uuid.uuid4(), 1)
    settings.RUNS_FOLDER.parent.mkdir(parents=True, exist_ok=True)
    settings.RUNS_FOLDER.touch()
    with pytest.raises(StorageAway):
        packs.read(claimed, "a" * 40, most=100)


@pytest.mark.parametrize("is_made", [False, True])
def test_a_storage_without_anything_is_one_that_is_away(settings: Any, *, is_made: bool) -> None:
    claimed = Claim(uuid.uuid4(), 1)
    if is_made:
        settings.RUNS_FOLDER.mkdir(parents=True)
    with pytest.raises(StorageAway):
        packs.read(claimed, "a" * 40, most=100)
    packs.keep(Claim(uuid.uuid4(), 1), "a" * 40, b"of another task")
    with pytest.raises(WorkspaceLost):
        packs.read(claimed, "a" * 40, most=100)


def test_the_end_of_a_run_removes_what_no_row_names(task: Task, settings: Any) -> None:
    named = stored(settings, task.pk)
    packs.keep(Claim(task.pk, 7), "b" * 40, b"of a lost attempt")
    stores.tidy(task.pk)
    assert stored(settings, task.pk) == named
    settings.RUNS_FOLDER.rename(settings.RUNS_FOLDER.with_name("away"))
    stores.tidy(task.pk)


def test_disconnecting_removes_the_packs_after_commit(
    task: Task, repository: Repository, settings: Any
) -> None:
    other = Claim(uuid.uuid4(), 1)
    packs.keep(other, "a" * 40, b"of another task")
    connect.disconnect_repository(repository)
    assert stored(settings, task.pk) == []
    assert stored(settings, other.task_id) != []
    packs.keep(Claim(task.pk, task.generation), "c" * 40, b"of a run that still went on")
    stores.tidy(task.pk)
    assert stored(settings, task.pk) == []
