"""What changes beside a run: the row of its repository, the right to it, its settings."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import Role, User
from asynccoder.tests.processes import Process
from repositories import connect
from repositories.models import Repository, RepositoryAccess
from tasks.models import Status
from tasks.tests.test_run_survives import Gate, assert_done, assert_paid_once
from tasks.tests.world import World, build_world, commit_files

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gate() -> Gate:
    return Gate(3)


@pytest.fixture
def world(
    alice: User,
    worker_process: Callable[..., Process],
    tmp_path: Path,
    gate: Gate,
    settings: Any,
) -> Iterator[World]:
    settings.OPENAI_API_KEY = "sk-platform-key"
    with build_world(alice, gate, worker_process, tmp_path / "repository") as world:
        yield world


def test_a_changed_repository_does_not_make_a_resumed_run_another_one(
    world: World, gate: Gate
) -> None:
    task = world.create()
    worker = world.worker(STOP_SECONDS="0")
    assert gate.reached.wait(120)
    Repository.objects.update(
        default_branch="trunk", full_name="renamed", network_allow_list=["packages.example.org"]
    )
    worker.send(signal.SIGTERM)
    worker.popen.wait(60)
    gate.open.set()
    world.worker()
    world.finished(task)
    assert_done(task)
    assert_paid_once(task, world)


def test_nothing_is_pushed_to_a_repository_that_was_disconnected_meanwhile(
    world: World, gate: Gate
) -> None:
    task = world.create()
    world.worker()
    assert gate.reached.wait(120)
    connect.disconnect_repository(world.repository)
    gate.open.set()
    world.finished(task)
    assert_done(task)
    assert not task.is_pushed
    assert "disconnected" in task.steps.get(name="push").outcome


@pytest.mark.parametrize("path", ["src", "app.py/below", "link/below"])
def test_a_file_that_does_not_fit_is_the_requests_fault(world: World, path: str) -> None:
    folder = Path(world.repository.url)
    (folder / "link").symlink_to("/etc")
    commit_files(folder, {"src/main.py": "print(1)\n"})
    task = world.create(files=[{"path": path, "content": "given"}])
    world.worker()
    world.finished(task)
    assert (task.status, task.error_code) == ("failed", "file_not_placed")
    assert path in task.error_message
    assert not Path("/etc/below").exists()


@pytest.mark.parametrize("loss", ["disconnected", "right withdrawn", "made a viewer", "none"])
def test_a_waiting_task_looks_again_whether_it_may_work_on_its_repository(
    world: World, gate: Gate, mallory: User, loss: str
) -> None:
    Repository.objects.update(owner=mallory)
    write = {"level": RepositoryAccess.Level.WRITE}
    access = RepositoryAccess.objects.create(repository=world.repository, user=world.owner, **write)
    task = world.create()
    if loss == "disconnected":
        connect.disconnect_repository(world.repository)
    elif loss == "right withdrawn":
        access.delete()
    elif loss == "made a viewer":
        User.objects.filter(pk=world.owner.pk).update(role=Role.VIEWER)
    gate.open.set()
    world.worker()
    world.finished(task)
    code = "" if loss == "none" else "repository_closed"
    assert task.error_code == code
    assert task.is_pushed == (task.status == Status.COMPLETED) == (loss == "none")
