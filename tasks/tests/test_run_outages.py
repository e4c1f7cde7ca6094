"""What a run does when the database or the disk under it goes away."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from accounts.models import User
from asynccoder.tests.processes import Process, wait_for
from billing import ledger
from repositories import connect, git
from repositories.errors import failure
from tasks import lease, runner
from tasks.errors import WorkspaceLost
from tasks.models import Status, Step, Task, WorkerHeartbeat
from tasks.tests.make import make_task
from tasks.tests.world import World, bash, build_world, finish
from tasks.worker import Worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(400)]


@pytest.fixture
def build(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path, settings: Any
) -> Iterator[Callable[..., World]]:
    settings.OPENAI_API_KEY = "sk-platform-key"
    open_worlds: list[Any] = []

    def make(script: Any) -> World:
        world = build_world(alice, script, worker_process, tmp_path / "repository")
        open_worlds.append(world)
        return world.__enter__()

    yield make
    for world in open_worlds:
        world.__exit__(None, None, None)


def cut_connections() -> int:
    """End every connection to this test's database but our own, as a restart does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


@pytest.mark.services
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no connections to lose")
def test_a_run_that_loses_its_connection_goes_on_and_its_worker_still_hears(
    build: Callable[..., World],
) -> None:
    world = build([])
    # The sandbox sees the mirror, so a file there can tell the command that it may go on.
    go = connect.mirror_path(world.repository) / "go"
    waiting = bash(f"echo one >> notes.txt; until [ -e {go} ]; do sleep 0.1; done")
    world.server.script = [waiting, *finish()]
    # A sweeper that comes too late to help shows what the doorbell alone can do.
    worker = world.worker(SWEEP_SECONDS="900", LEASE_SECONDS="60")
    wait_for(WorkerHeartbeat.objects.exists, seconds=60, what="the worker serves")
    task = world.create()
    commands = task.steps.filter(name="bash", state=Step.State.STARTED)
    wait_for(commands.exists, seconds=60, what="the command runs")
    assert cut_connections() > 0
    go.touch()
    resumed = task.log.filter(kind="task.resumed")
    wait_for(resumed.exists, seconds=60, what="it goes on")
    second = world.create()
    for each in (task, second):
        world.finished(each, seconds=90)
        assert (each.status, each.error_message) == (Status.COMPLETED, "")
    assert task.lost_attempts == 0, worker.output()
    assert task.result.diff.count("+one") == 1
    assert ledger.balance(task.owner_id).held == 0


@pytest.fixture
def claimed(alice: User) -> lease.Claim:
    task = make_task(owner=alice)
    found = lease.claim(worker="one", only=task.pk)
    assert found is not None
    return found


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the work of a run raise this: no disk fills and no server dies on command."""

    def work(*_: object) -> str:
        raise error

    monkeypatch.setattr(runner, "_work", work)


def test_what_the_database_refuses_a_run_three_times_ends_it(
    claimed: lease.Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, OperationalError("out of shared memory"))
    for attempt in (1, 2):
        runner.run(lease.Claim(claimed.task_id, attempt))
        task = Task.objects.get()
        assert (task.status, task.lease_owner, task.lost_attempts) == ("running", "", attempt)
        assert lease.claim(worker="one")
    runner.run(lease.Claim(claimed.task_id, 3))
    task = Task.objects.get()
    assert (task.status, task.error_code) == ("failed", "worker_lost")


def refused_by_sqlite(statement: str) -> OperationalError:
    """Return Django's error for what a tiny SQLite says of a statement."""
    with closing(sqlite3.connect(":memory:")) as tiny:
        tiny.execute("CREATE TABLE filler (content BLOB)")
        tiny.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as refused:
            tiny.execute(statement)
    error = OperationalError(str(refused.value))
    error.__cause__ = refused.value
    return error


@pytest.mark.parametrize(
    ("statement", "lost"),
    [("INSERT INTO filler VALUES (zeroblob(1000000))", 0), ("SELECT no_such_column", 1)],
)
def test_a_full_sqlite_is_not_the_runs_fault(
    claimed: lease.Claim, monkeypatch: pytest.MonkeyPatch, statement: str, lost: int
) -> None:
    fail_with(monkeypatch, refused_by_sqlite(statement))
    runner.run(claimed)
    task = Task.objects.get()
    assert (task.status, task.lease_owner, task.lost_attempts) == ("running", "", lost)


def test_without_room_on_the_disk_nothing_is_claimed(alice: User, settings: Any) -> None:
    settings.VAR_DIR.mkdir()
    task = make_task(owner=alice)
    worker = Worker(slots=1)
    settings.DISK_RESERVE_BYTES = 2**62
    assert not worker.wait_for_room(0)
    assert not worker.serve()
    task.refresh_from_db()
    assert (task.status, task.generation) == (Status.PENDING, 0)
    # A person who runs one task alone is told by the task why it fails.
    assert Worker(slots=1, only=task.pk).wait_for_room(0)
    settings.DISK_RESERVE_BYTES = 1
    assert worker.wait_for_room(0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "disk_full"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "disk_full"),
        (shutil.Error([("a", "b", f"[Errno 28] {os.strerror(errno.ENOSPC)}: 'b'")]), "disk_full"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "internal_error"),
        (git.GitFailed(detail="git index-pack: fatal: No space left on device"), "disk_full"),
        (git.GitFailed(detail="git index-pack: fatal: early EOF"), "git_failed"),
    ],
    ids=str,
)
def test_a_full_disk_is_said_so(
    claimed: lease.Claim, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    fail_with(monkeypatch, error)
    runner.run(claimed)
    task = Task.objects.get()
    assert (task.status, task.error_code) == ("failed", code)
    assert "Errno" not in task.error_message


def test_every_error_of_git_tells_a_full_disk() -> None:
    bad = git.CheckpointBad(detail="error: unable to write file: No space left on device")
    assert failure(bad).code == "disk_full"


@pytest.mark.parametrize(
    ("error", "usual"),
    [
        (git.GitFailed(detail="git update-ref: couldn't write 'final.lock'"), "git_failed"),
        (git.CloneFailed(detail="fetch-pack: invalid index-pack output"), "clone_failed"),
        (WorkspaceLost("The last checkpoint could not be restored."), "workspace_lost"),
        (git.BranchMissing(), "branch_missing"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_comes_of_a_full_disk_is_said_to(
    claimed: lease.Claim,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    error: Exception,
    usual: str,
) -> None:
    settings.VAR_DIR.mkdir()
    fail_with(monkeypatch, error)
    settings.DISK_RESERVE_BYTES = 2**62
    runner.run(claimed)
    expected = usual if usual == "branch_missing" else "disk_full"
    assert Task.objects.get().error_code == expected
    second = make_task(owner=claimed_owner(claimed), repository=None, type="build")
    settings.DISK_RESERVE_BYTES = 1
    again = lease.claim(worker="one", only=second.pk)
    assert again is not None
    runner.run(again)
    assert Task.objects.get(pk=second.pk).error_code == usual


def claimed_owner(claimed: lease.Claim) -> User:
    return Task.objects.get(pk=claimed.task_id).owner
