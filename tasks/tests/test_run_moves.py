"""A run moves between workers that share a database, a Redis and the storage, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from accounts.models import User
from asynccoder.tests.processes import Process, wait_for
from billing import ledger
from billing.models import LedgerEntry
from repositories import connect
from tasks.models import Status, Step, Task
from tasks.tests.test_forkserver import is_alive
from tasks.tests.test_run_survives import runs_of
from tasks.tests.world import World, bash, build_world, finish

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(400),
]
EDITS = [
    bash("echo one >> notes.txt; chmod +x app.py"),
    bash("mkdir -p deep; echo two > deep/two.txt; head -c 50000 /dev/zero | tr '\\0' x > big.txt"),
    bash("echo three >> notes.txt; ln -s notes.txt link; sed -i s/hello/bye/ app.py"),
    bash("echo four >> notes.txt; rm big.txt"),
]
FINDING = {
    "path": "app.py",
    "line": 1,
    "severity": "high",
    "category": "correctness",
    "title": "It says the wrong thing",
    "failure": "Whoever runs it reads patched instead of hello.",
}
LOOKS = [bash("cat app.py"), bash("wc -l app.py"), bash("ls"), bash("head -1 app.py")]
PATCH = """\
--- a/app.py
+++ b/app.py
@@ -1 +1 @@
-print('hello')
+print('patched')
"""
KINDS: dict[str, dict[str, Any]] = {
    "repository": {"type": "debug"},
    "new project": {
        "type": "build",
        "repository": None,
        "files": [{"path": "app.py", "content": "print('hello')\n"}],
    },
    "patch": {"type": "pr_review", "patch": PATCH, "branch": "main"},
}


def script_of(kind: str) -> list[dict[str, Any]]:
    if kind == "patch":
        return LOOKS + finish(verdict="request_changes", findings=[FINDING])
    return EDITS + finish()


class Gate:
    """A script that, once it is closed, stops at one turn until the test opens it."""

    def __init__(self, script: list[dict[str, Any]], at: int = 3) -> None:
        self.script = script
        self.at = at
        self.is_closed = False
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        number = sum(1 for message in body["messages"] if message["role"] == "assistant")
        if number == self.at and self.is_closed:
            self.reached.set()
            self.open.wait(600)
        return self.script[min(number, len(self.script) - 1)]


@pytest.fixture
def build(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path, settings: Any
) -> Iterator[Callable[[Any], World]]:
    settings.OPENAI_API_KEY = "sk-platform-key"
    open_worlds: list[Any] = []

    def make(script: Any) -> World:
        world = build_world(alice, script, worker_process, tmp_path / "repository")
        open_worlds.append(world)
        entered = world.__enter__()
        entered.environment["RUNS_STORAGE"] = f"file://{settings.RUNS_FOLDER}"
        return entered

    yield make
    for world in open_worlds:
        world.__exit__(None, None, None)


def worker_in(world: World, folder: Path) -> Process:
    """Start a worker that has nothing but what it shares with the others."""
    return world.worker(VAR_DIR=str(folder))


def kill(worker: Process) -> None:
    below = runs_of(worker)
    worker.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in below), what="nothing is left of the worker")


def undisturbed(world: World, **values: Any) -> Task:
    """Return what the same request comes to when nobody is killed."""
    task = world.create(**values)
    return world.finished(task)


def work_of(task: Task) -> tuple[Any, ...]:
    """Return all that two runs of one request have in common."""
    result = task.result
    findings = [(found["path"], found["line"]) for found in result.data.get("findings", [])]
    checkpoints = list(
        task.steps.filter(state=Step.State.DONE).exclude(checkpoint="")
        .order_by("ordinal").values_list("checkpoint", flat=True)
    )  # fmt: skip
    return (
        (task.status, task.outcome, task.error_message),
        result.diff,
        result.files,
        findings,
        checkpoints,
    )


def assert_paid_once(task: Task) -> None:
    charges = LedgerEntry.objects.filter(kind="charge", reference__startswith=f"task:{task.pk}")
    done = task.steps.filter(kind=Step.Kind.MODEL_CALL, state=Step.State.DONE)
    assert charges.count() == done.count() == 6
    assert sum(-row.held_change for row in charges) == task.charged_microcredits


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_run_whose_worker_dies_in_a_model_call_moves_to_another(
    build: Callable[[Any], World], tmp_path: Path, kind: str
) -> None:
    gate = Gate(script_of(kind))
    world = build(gate)
    first = worker_in(world, tmp_path / "one")
    calm = undisturbed(world, **KINDS[kind])
    gate.is_closed = True
    task = world.create(**KINDS[kind])
    assert gate.reached.wait(120)
    kill(first)
    gate.open.set()
    worker_in(world, tmp_path / "two")
    world.finished(task)
    assert work_of(task) == work_of(calm)
    assert task.status == Status.COMPLETED
    assert task.lost_attempts == 1
    assert_paid_once(task)


def test_a_run_whose_worker_dies_in_a_command_moves_to_another(
    build: Callable[[Any], World], tmp_path: Path
) -> None:
    world = build(script_of("repository"))
    first = worker_in(world, tmp_path / "one")
    calm = undisturbed(world)
    folders = [tmp_path / "one", tmp_path / "two"]
    # The sandbox sees its worker's mirror, so a file there can tell the command that it may go on.
    mirrors = [folder / mirror_in_var_dir(world) for folder in folders]
    waiting = EDITS[2]["tool_calls"][0]["arguments"]["command"]
    waiting += f"; until [ -e {mirrors[0]}/go ] || [ -e {mirrors[1]}/go ]; do sleep 0.1; done"
    world.server.script = [*EDITS[:2], bash(waiting), EDITS[3], *finish()]
    task = world.create()
    commands = task.steps.filter(name="bash", state=Step.State.STARTED, input__contains="until")
    wait_for(commands.exists, seconds=120, what="the waiting command runs")
    kill(first)
    worker_in(world, folders[1])
    wait_for(lambda: (mirrors[1] / "HEAD").exists(), seconds=120, what="the other has a mirror")
    (mirrors[1] / "go").touch()
    world.finished(task)
    assert work_of(task) == work_of(calm)
    assert_paid_once(task)


def mirror_in_var_dir(world: World) -> str:
    return f"repositories/{world.repository.pk}/{connect.mirror_path(world.repository).name}"


def packs_of(task: Task, settings: Any) -> list[Path]:
    return sorted((settings.RUNS_FOLDER / str(task.pk)).iterdir())


def test_a_run_whose_pack_is_gone_fails_and_says_so(
    build: Callable[[Any], World], tmp_path: Path, settings: Any
) -> None:
    gate = Gate(script_of("repository"))
    gate.is_closed = True
    world = build(gate)
    task = world.create()
    first = worker_in(world, tmp_path / "one")
    assert gate.reached.wait(120)
    kill(first)
    gate.open.set()
    step = task.steps.exclude(checkpoint="").order_by("ordinal")[1]
    (lost,) = [path for path in packs_of(task, settings) if step.checkpoint in path.name]
    lost.unlink()
    worker_in(world, tmp_path / "two")
    world.finished(task)
    assert (task.status, task.error_code) == (Status.FAILED, "workspace_lost")
    assert task.error_message == f"The checkpoint {step.checkpoint[:12]} is not in the storage."
    assert not hasattr(task, "result")
    assert ledger.balance(task.owner_id).held == 0


def test_a_run_waits_for_a_storage_that_is_away_and_repeats_only_the_command(
    build: Callable[[Any], World], tmp_path: Path, settings: Any
) -> None:
    world = build(script_of("repository"))
    settings.RUNS_FOLDER.parent.mkdir(parents=True, exist_ok=True)
    settings.RUNS_FOLDER.touch()
    task = world.create()
    worker_in(world, tmp_path / "one")
    wait_for(lambda: task.log.filter(kind="task.parked").exists(), seconds=120, what="it is parked")
    assert "storage" in task.log.get(kind="task.parked").message
    assert not task.steps.exclude(checkpoint="").exists()
    settings.RUNS_FOLDER.unlink()
    Task.objects.filter(pk=task.pk).update(run_after=Now())
    world.finished(task)
    assert (task.status, task.lost_attempts) == (Status.COMPLETED, 0)
    assert "+four" in task.result.diff
    lost = task.steps.filter(state=Step.State.LOST)
    assert {step.kind for step in lost} == {Step.Kind.TOOL_CALL}
    assert_paid_once(task)
