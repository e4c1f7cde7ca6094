"""What killed attempts leave on the disk is cleared away, and nothing that is still in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from tasks.models import Status, Task
from tasks.tests.make import make_task
from tasks.workspace import drop_abandoned, drop_half_made, task_folder

pytestmark = pytest.mark.django_db
SCRATCH = (
    "layers-1-0a1b/upper/file", "layers-2-0a1b/upper/file", ".store.git-x/store/HEAD",
    ".origin.git-x/origin/HEAD", "store.git/incoming-x/pack/tmp_pack", "store.git/patch-x/index",
    ".hosted-x/all.bundle",
)  # fmt: skip
KEPT = ("store.git/HEAD", "origin.git/HEAD")


def disturbed(owner: User, **values: Any) -> tuple[Task, Path]:
    """Make a task whose attempts were killed, with all that they could leave."""
    defaults: dict[str, Any] = {"status": Status.FAILED, "generation": 2, "lost_attempts": 2}
    task = make_task(owner=owner, **(defaults | values))
    folder = task_folder(task.pk)
    for name in (*SCRATCH, *KEPT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return task, folder


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"status": Status.CANCELLED, "generation": 1, "lost_attempts": 1},
        {"status": Status.COMPLETED, "lost_attempts": 0},
        {"status": Status.RUNNING, "generation": 1, "lost_attempts": 1},
    ],
)
def test_what_dead_workers_left_is_removed(alice: User, values: dict[str, Any]) -> None:
    _, folder = disturbed(alice, **values)
    assert drop_abandoned() == len(SCRATCH)
    assert left(folder) == set(KEPT)
    assert drop_abandoned() == 0


@pytest.mark.parametrize(
    "values", [{"lease_owner": "here:1:a"}, {"status": Status.PENDING, "generation": 0}]
)
def test_what_may_be_in_use_stays(alice: User, values: dict[str, Any]) -> None:
    _, folder = disturbed(alice, **({"status": Status.RUNNING} | values))
    assert drop_abandoned() == 0
    assert left(folder) == {*SCRATCH, *KEPT}


def test_the_next_attempt_clears_what_was_half_made(alice: User) -> None:
    task, folder = disturbed(alice)
    drop_half_made(task.pk)
    layers = {name for name in SCRATCH if name.startswith("layers-")}
    assert left(folder) == {*KEPT, *layers}
