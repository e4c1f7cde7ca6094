"""A worker that is told to stop: steps come to their end, nothing is lost, another goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from asynccoder.tests.processes import Process, wait_for
from repositories import connect
from tasks import lease, lifecycle
from tasks.models import Status, Step, Task, WorkerHeartbeat
from tasks.tests.make import make_task
from tasks.tests.test_forkserver import is_alive
from tasks.tests.test_run_survives import (
    SCRIPT,
    Gate,
    assert_done,
    assert_paid_once,
    runs_of,
)
from tasks.tests.world import World, bash, build_world
from tasks.worker import Worker

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(400),
]
DEAF = {"SWEEP_SECONDS": "600", "LEASE_SECONDS": "600"}
"""A worker with these learns of a task by the doorbell, or at its start, and not later."""


@pytest.fixture
def gate() -> Gate:
    return Gate(3)


@pytest.fixture
def world(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path, gate: Gate, settings: Any
) -> Iterator[World]:
    settings.OPENAI_API_KEY = "sk-platform-key"
    with build_world(alice, gate, worker_process, tmp_path / "repository") as world:
        yield world
        gate.open.set()


def serving(world: World, **environment: str) -> Process:
    """Start a worker and wait until it serves."""
    before = WorkerHeartbeat.objects.count()
    worker = world.worker(**environment)
    wait_for(lambda: WorkerHeartbeat.objects.count() > before, seconds=120, what="it serves")
    return worker


def stop(worker: Process, number: signal.Signals = signal.SIGTERM) -> None:
    """Ask a worker to stop, and wait until it has begun to."""
    worker.send(number)
    wait_until_it_drains(worker)


def wait_until_it_drains(worker: Process) -> None:
    wait_for(lambda: "end of their step" in worker.output(), seconds=60, what="it drains")
    assert "at most: 1;" in worker.output()


def assert_given_back(task: Task) -> None:
    task.refresh_from_db()
    assert (task.status, task.lease_owner, task.lost_attempts) == (Status.RUNNING, "", 0)


def assert_nothing_lost(task: Task, world: World) -> None:
    assert_done(task)
    assert_paid_once(task, world)
    task.refresh_from_db()
    assert task.lost_attempts == 0
    assert not task.steps.filter(state=Step.State.LOST).exists()
    assert world.asked() == len(SCRIPT)


def test_a_model_call_in_flight_is_answered_paid_and_not_asked_again(
    world: World, gate: Gate
) -> None:
    task = world.create()
    worker = world.worker()
    assert gate.reached.wait(120)
    below = runs_of(worker)
    stop(worker)
    gate.open.set()
    assert worker.popen.wait(60) == 0
    assert not any(is_alive(pid) for pid in below)
    assert_given_back(task)
    last = task.steps.latest("ordinal")
    assert (last.kind, last.state) == (Step.Kind.MODEL_CALL, Step.State.DONE)
    world.worker()
    world.finished(task, seconds=120)
    assert_nothing_lost(task, world)
    kinds = list(task.log.values_list("kind", flat=True))
    assert kinds.count("task.given_back") == kinds.count("task.resumed") == 1


def test_a_command_in_flight_comes_to_its_end_and_is_checkpointed(world: World) -> None:
    # The sandbox sees the mirror, so a file there can tell the command that it may go on.
    go = connect.mirror_path(world.repository) / "go"
    waiting = bash(f"echo line 4 >> notes.txt; until [ -e {go} ]; do sleep 0.1; done")
    world.server.script = [*SCRIPT[:4], waiting, *SCRIPT[5:]]
    task = world.create()
    worker = world.worker()
    commands = task.steps.filter(name="bash", state=Step.State.STARTED, input__contains="until")
    wait_for(commands.exists, seconds=120, what="the waiting command runs")
    stop(worker)
    go.touch()
    assert worker.popen.wait(60) == 0
    assert_given_back(task)
    assert task.steps.get(input__contains="until").checkpoint == task.head_commit
    world.worker()
    world.finished(task, seconds=120)
    assert_nothing_lost(task, world)


def test_another_worker_hears_the_doorbell_and_goes_on_at_once(world: World, gate: Gate) -> None:
    task = world.create()
    worker = world.worker()
    assert gate.reached.wait(120)
    serving(world, **DEAF)
    stop(worker)
    gate.open.set()
    world.finished(task, seconds=120)
    assert_nothing_lost(task, world)
    assert worker.popen.wait(60) == 0


def test_a_task_that_only_the_stopping_worker_has_heard_of_is_passed_on(
    world: World, gate: Gate
) -> None:
    # The second task is not due before the owner's one place is free again.
    User.objects.update(concurrent_tasks=1)
    first, second = world.create(), world.create()
    worker = world.worker(WORKER_SLOTS="1")
    assert gate.reached.wait(120)
    serving(world, **DEAF)
    stop(worker)
    gate.open.set()
    for task in (first, second):
        world.finished(task, seconds=120)
    # The stopping worker has not claimed it.
    assert (second.generation, second.lost_attempts) == (1, 0)
    assert worker.popen.wait(60) == 0


def test_what_takes_longer_than_the_time_to_stop_is_given_back_all_the_same(
    world: World, gate: Gate
) -> None:
    task = world.create()
    worker = world.worker(STOP_SECONDS="0.5", LEASE_SECONDS="600")
    assert gate.reached.wait(120)
    below = runs_of(worker)
    worker.send(signal.SIGTERM)
    assert worker.popen.wait(60) == 0
    assert not any(is_alive(pid) for pid in below)
    assert_given_back(task)
    gate.open.set()
    world.worker()
    world.finished(task, seconds=120)
    assert_done(task)
    assert_paid_once(task, world)
    assert task.steps.filter(state=Step.State.LOST).count() == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(world: World, gate: Gate, second: signal.Signals) -> None:
    task = world.create()
    worker = world.worker(STOP_SECONDS="600", LEASE_SECONDS="600")
    assert gate.reached.wait(120)
    stop(worker)
    worker.send(second)
    assert worker.popen.wait(60) == 0
    assert_given_back(task)


def test_leases_are_renewed_and_cancellations_heard_while_it_drains(
    world: World, gate: Gate
) -> None:
    task = world.create()
    worker = world.worker(STOP_SECONDS="600")
    assert gate.reached.wait(120)
    stop(worker)
    until = expiry(task)
    wait_for(lambda: expiry(task) > until, what="the lease is renewed")
    lifecycle.cancel_task(task, by=task.owner)
    world.finished(task, seconds=60)
    assert task.status == Status.CANCELLED
    assert worker.popen.wait(60) == 0


def expiry(task: Task) -> datetime:
    task.refresh_from_db()
    assert task.lease_expires_at is not None
    return task.lease_expires_at


def test_a_ctrl_c_that_reaches_the_whole_group_is_heard_once(world: World, gate: Gate) -> None:
    task = world.create()
    worker = world.worker(STOP_SECONDS="600")
    assert gate.reached.wait(120)
    os.killpg(worker.pid, signal.SIGINT)
    wait_until_it_drains(worker)
    until = expiry(task)
    wait_for(lambda: expiry(task) > until, what="the lease is renewed")
    gate.open.set()
    assert worker.popen.wait(60) == 0
    assert_given_back(task)
    assert not task.steps.exclude(state=Step.State.DONE).exists()


def test_a_worker_that_runs_nothing_stops_without_a_word(world: World) -> None:
    worker = serving(world, STOP_SECONDS="600")
    worker.send(signal.SIGTERM)
    assert worker.popen.wait(60) == 0
    assert "stopping" not in worker.output()
    assert not WorkerHeartbeat.objects.exists()


def test_a_slot_that_only_tries_to_claim_is_no_run(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task(owner=alice)
    claim = lease.claim
    seen: list[tuple[int, int]] = []

    # Replaced, because a claim takes too short a time to look at the worker meanwhile.
    def claim_and_look(**values: Any) -> lease.Claim | None:
        seen.append((worker.busy, worker.runs))
        return claim(**values)

    monkeypatch.setattr(lease, "claim", claim_and_look)
    worker = Worker(slots=1)
    assert worker._take_slot()
    assert worker._claim()
    assert seen == [(1, 0)]
    assert (worker.busy, worker.runs) == (1, 1)
