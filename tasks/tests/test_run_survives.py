"""A run survives what kills its worker: real processes, real signals, a real model server."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from django.conf import settings
from dramatiq.brokers.redis import RedisBroker

from accounts.models import User
from asynccoder.tests.processes import Process, StartProcess, descendants, running_redis, wait_for
from billing import ledger
from billing.models import LedgerEntry
from repositories import connect
from tasks import actors
from tasks.models import Status, Step, Task, WorkerHeartbeat
from tasks.tests.test_forkserver import is_alive
from tasks.tests.world import World, bash, build_world, finish

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(400),
]
STEPS = 8
SCRIPT = [bash(f"echo line {number} >> notes.txt") for number in range(STEPS)] + finish()
DIFF = "".join(f"+line {number}\n" for number in range(STEPS))


class Gate:
    """A script that stops at one turn until the test lets it go on."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        number = sum(1 for message in body["messages"] if message["role"] == "assistant")
        if number == self.at:
            self.reached.set()
            self.open.wait(600)
        return SCRIPT[min(number, len(SCRIPT) - 1)]


@pytest.fixture(autouse=True)
def _keys(settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-platform-key"


@pytest.fixture
def build(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path
) -> Iterator[Callable[[Any], World]]:
    """Return a function that makes the world of a script; it ends with the test."""
    open_worlds: list[Any] = []

    def make(script: Any) -> World:
        world = build_world(alice, script, worker_process, tmp_path / "repository")
        open_worlds.append(world)
        return world.__enter__()

    yield make
    for world in open_worlds:
        world.__exit__(None, None, None)


def runs_of(worker: Process) -> list[int]:
    """Return the process ids of everything below a worker."""
    return descendants(worker.pid)


def assert_paid_once(task: Task, world: World) -> None:
    """Every charge is a settled call, and every call of the server is settled or marked lost."""
    charges = LedgerEntry.objects.filter(kind="charge")
    assert sum(-row.held_change for row in charges) == task.charged_microcredits
    done = task.steps.filter(kind=Step.Kind.MODEL_CALL, state=Step.State.DONE)
    lost = task.steps.filter(kind=Step.Kind.MODEL_CALL, state=Step.State.LOST)
    assert charges.count() == done.count() == len(SCRIPT)
    assert done.count() <= world.asked() <= done.count() + lost.count()
    assert ledger.balance(task.owner_id).held == 0


def assert_done(task: Task) -> None:
    steps = [
        (step.ordinal, step.name, step.summary, step.outcome[:500]) for step in task.steps.all()
    ][-4:]
    assert (task.status, task.error_message) == (Status.COMPLETED, ""), steps
    added = [line for line in task.result.diff.splitlines() if line.startswith("+line")]
    assert "".join(f"{line}\n" for line in added) == DIFF


def test_an_undisturbed_run_is_done_and_paid(build: Callable[[Any], World]) -> None:
    world = build(SCRIPT)
    task = world.create()
    world.worker()
    world.finished(task)
    assert_done(task)
    assert_paid_once(task, world)
    assert task.log.filter(kind="task.started").count() == 1
    sequences = list(task.log.order_by("sequence").values_list("sequence", flat=True))
    assert sequences == list(range(1, len(sequences) + 1))


@pytest.mark.parametrize("at", [0, 3, len(SCRIPT) - 1])
def test_kill_9_in_a_model_call_goes_on_to_the_same_end(
    build: Callable[[Any], World], at: int
) -> None:
    gate = Gate(at)
    world = build(gate)
    task = world.create()
    worker = world.worker()
    assert gate.reached.wait(120)
    below = runs_of(worker)
    worker.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in below), what="nothing is left of the worker")
    gate.open.set()
    world.worker()
    world.finished(task)
    assert_done(task)
    assert_paid_once(task, world)
    task.refresh_from_db()
    assert task.lost_attempts == 1
    assert task.steps.filter(state=Step.State.LOST).count() == 1


def test_kill_9_in_a_command_goes_on_from_the_checkpoint(build: Callable[[Any], World]) -> None:
    world = build(SCRIPT)
    # The sandbox sees the mirror, so a file there can tell the command that it may go on.
    go = connect.mirror_path(world.repository) / "go"
    waiting = bash(f"echo line 4 >> notes.txt; until [ -e {go} ]; do sleep 0.1; done")
    world.server.script = [*SCRIPT[:4], waiting, *SCRIPT[5:]]
    task = world.create()
    worker = world.worker()
    commands = task.steps.filter(name="bash", state=Step.State.STARTED, input__contains="until")
    wait_for(commands.exists, seconds=120, what="the waiting command runs")
    below = runs_of(worker)
    worker.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in below), what="nothing is left of the worker")
    go.touch()
    world.worker()
    world.finished(task)
    assert_done(task)
    assert_paid_once(task, world)


def test_a_killed_run_process_is_taken_up_by_its_own_worker(
    build: Callable[[Any], World],
) -> None:
    gate = Gate(5)
    world = build(gate)
    task = world.create()
    worker = world.worker()
    assert gate.reached.wait(120)
    run = next(pid for pid in runs_of(worker) if os.getsid(pid) == pid and pid != worker.pid)
    os.kill(run, signal.SIGKILL)
    gate.open.set()
    world.finished(task)
    assert_done(task)
    assert_paid_once(task, world)
    assert worker.popen.poll() is None


def test_doorbells_without_number_make_one_run(build: Callable[[Any], World]) -> None:
    world = build(SCRIPT)
    task = world.create()
    for _ in range(20):
        actors.ring(str(task.pk))
    world.worker()
    world.worker()
    world.finished(task)
    assert_paid_once(task, world)
    assert task.log.filter(kind="task.started").count() == 1
    assert task.generation == 1


def test_a_flushed_broker_loses_nothing(
    build: Callable[[Any], World], tmp_path: Path, settings: Any
) -> None:
    world = build(SCRIPT)
    with running_redis(tmp_path / "own") as url:
        tasks = [world.create(prompt=f"Number {number}") for number in range(3)]
        # The tasks rang at the session's Redis; the worker hears only this empty one.
        world.worker(REDIS_URL=url)
        for task in tasks:
            world.finished(task)
            assert task.status == Status.COMPLETED


def test_a_broker_that_takes_nothing_costs_nobody_their_task(
    build: Callable[[Any], World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = build(SCRIPT)
    with running_redis(tmp_path / "own") as url, redis.Redis.from_url(url) as client:
        broker = RedisBroker(  # type: ignore[no-untyped-call]  # its constructor has no annotations
            url=url, namespace="full", middleware=[]
        )
        heard = dramatiq.actor(broker=broker, actor_name="full")(actors.run_due.fn)
        monkeypatch.setattr(actors, "run_due", heard)
        actors.ring("before")
        assert client.llen("full:default") == 1
        client.config_set("maxmemory", "1")
        task = world.create()
        assert client.llen("full:default") == 1
        broker.client.close()
    assert task.status == Status.PENDING


def test_a_worker_without_its_fork_server_ends_and_takes_no_task_with_it(
    build: Callable[[Any], World],
) -> None:
    world = build(SCRIPT)
    worker = world.worker()
    wait_for(lambda: WorkerHeartbeat.objects.exists(), seconds=120, what="the worker serves")
    os.kill(runs_of(worker)[-1], signal.SIGKILL)
    task = world.create()
    world.finished(task)
    assert_done(task)
    # Each slot may have claimed it once before the worker ended.
    assert task.generation <= settings.WORKER_SLOTS + 1


def sleepers() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if entry.read_bytes() == b"sleep\x00611\x00":
                found.append(entry.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_stopped_worker_writes_nothing_after_another_took_over(
    build: Callable[[Any], World], start_process: StartProcess
) -> None:
    gate = Gate(4)
    world = build(gate)
    task = world.create()
    stale = world.worker()
    assert gate.reached.wait(120)
    frozen = [stale.pid, *runs_of(stale)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    world.server.script = SCRIPT
    world.worker()
    world.finished(task)
    gate.open.set()
    before = list(task.log.values_list("sequence", "kind"))
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: "lease is lost" in stale.output() or "ended by" in stale.output())
    assert_done(task)
    assert list(task.log.values_list("sequence", "kind")) == before
    assert_paid_once(task, world)
