"""A run with a setup survives kill -9, whatever has become of what the setup made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from asynccoder.tests.processes import Process, wait_for
from repositories import connect
from repositories.models import Repository
from tasks import layers
from tasks.models import Task
from tasks.tests.test_forkserver import is_alive
from tasks.tests.test_run_survives import Gate, runs_of
from tasks.tests.world import World, bash, build_world, finish, run_git
from tasks.workspace import task_folder

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(400),
]
FILES = {"app.py": "one = 1\n", "lock.txt": "x\n", "requirements.txt": "x\n"}
SET_UP = "date +%N > made.txt; date +%N > mine.txt; date +%N >> lock.txt; mkdir -p vendor/a"
SCRIPT = [
    bash("echo first >> notes.txt"),
    bash("echo agent > mine.txt"),
    bash("test -s made.txt && echo second >> notes.txt"),
    *finish(),
]
CHANGED = ["mine.txt", "notes.txt"]
DIFF = """\
diff --git a/mine.txt b/mine.txt
new file mode 100644
index 0000000..b6b0be9
--- /dev/null
+++ b/mine.txt
@@ -0,0 +1 @@
+agent
diff --git a/notes.txt b/notes.txt
new file mode 100644
index 0000000..66a52ee
--- /dev/null
+++ b/notes.txt
@@ -0,0 +1,2 @@
+first
+second
"""


class GatedScript(Gate):
    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        number = sum(1 for message in body["messages"] if message["role"] == "assistant")
        super().__call__(body)
        return SCRIPT[min(number, len(SCRIPT) - 1)]


@pytest.fixture(autouse=True)
def _keys(settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-platform-key"


@pytest.fixture
def build(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path
) -> Iterator[Callable[..., World]]:
    open_worlds: list[Any] = []

    def make(script: Any, command: str = SET_UP) -> World:
        world = build_world(alice, script, worker_process, tmp_path / "repository", files=FILES)
        open_worlds.append(world)
        made = world.__enter__()
        Repository.objects.update(setup_command=command, check_commands=["true"])
        made.repository.refresh_from_db()
        return made

    yield make
    for world in open_worlds:
        world.__exit__(None, None, None)


def end(worker: Process) -> None:
    below = runs_of(worker)
    worker.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in below), what="nothing is left of the worker")


def setups_of(world: World) -> list[Path]:
    """Return what is kept, and what is half done, in the repository's folder."""
    folder = connect.setups_path(world.repository)
    return [path for path in folder.glob("*") if path.is_dir()]


def told(task: Task) -> list[str]:
    messages = task.log.order_by("sequence").values_list("message", flat=True)
    return [text[:11] for text in messages if text.startswith("Setup")]


def nothing(world: World) -> None:
    """What the setup made is kept."""


def forget(world: World) -> None:
    layers.prune(connect.setups_path(world.repository), keep_bytes=0, idle_seconds=0)


def set_up_otherwise(world: World) -> None:
    Repository.objects.update(setup_command=f"{SET_UP}; echo more > other.txt; rm lock.txt")


@pytest.mark.parametrize("meanwhile", [nothing, forget, set_up_otherwise])
@pytest.mark.parametrize("at", [1, 3])
def test_kill_9_changes_nothing_of_the_difference(
    build: Callable[..., World], meanwhile: Callable[[World], None], at: int
) -> None:
    gate = GatedScript(at)
    world = build(gate)
    task = world.create()
    worker = world.worker()
    assert gate.reached.wait(120)
    end(worker)
    meanwhile(world)
    gate.open.set()
    world.worker()
    world.finished(task, seconds=120)
    assert (task.status, task.error_message) == ("completed", "")
    assert task.result.diff == DIFF
    changed = run_git(Path(world.repository.url), "diff", "--name-only", "main", task.result_branch)
    assert changed.split() == CHANGED
    is_there_still = meanwhile is nothing
    assert told(task) == ["Setup done ", "Setup not r" if is_there_still else "Setup done "]


def test_kill_9_in_a_setup_keeps_nothing_half(build: Callable[..., World]) -> None:
    world = build(SCRIPT)
    go = connect.mirror_path(world.repository) / "go"
    command = f"echo half > made.txt; until [ -e {go} ]; do sleep 0.1; done; echo whole > made.txt"
    Repository.objects.update(setup_command=command)
    task = world.create()
    worker = world.worker()
    scratch = task_folder(task.pk)
    wait_for(
        lambda: bool(list(scratch.glob("layers-*/*/made.txt"))),
        seconds=60,
        what="the setup has begun",
    )
    end(worker)
    assert setups_of(world) == []
    go.touch()
    world.worker()
    world.finished(task, seconds=120)
    assert (task.status, task.error_message) == ("completed", "")
    (kept,) = setups_of(world)
    assert [path.read_text() for path in kept.glob("tree/made.txt")] in ([], ["whole\n"])
    assert not list(scratch.glob("layers-*"))
