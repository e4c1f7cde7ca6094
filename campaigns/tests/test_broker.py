"""A broker that fails, at the small size, and what the campaign says of a task that it harmed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from accounts.models import User
from billing import ledger
from billing.models import CreditHold
from campaigns import broker, load
from campaigns.followers import Follower
from campaigns.tests.commands import play
from tasks.models import Step, Task
from tasks.tests.make import make_log, make_step, make_task

CREDIT = ledger.MICROCREDITS


@pytest.mark.services
@pytest.mark.timeout(600)
def test_the_small_size_has_no_losses() -> None:
    told = play("broker", count=4)
    for attack in broker.ATTACKS:
        assert f"| {attack} |" in told
    assert "messages became" in told
    assert "the API answered 3 times 201" in told


# --- what each check says of a task that was harmed -----------------------------------------------


@pytest.fixture
def task(alice: User, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task that did all it had to, but for its lines."""
    monkeypatch.setattr(load, "DIFF", [])
    ledger.grant(user_id=alice.pk, microcredits=10 * CREDIT, reference="gift")
    calls = len(load.SCRIPT)
    task = make_task(
        owner=alice, held=CREDIT, charged_microcredits=calls, status="completed", generation=1
    )
    for number in range(calls):
        charge(task, number)
        make_step(task, kind=Step.Kind.MODEL_CALL, cost_microcredits=1)
    ledger.release(hold_reference=f"task:{task.pk}")
    make_log(task, kind="task.started")
    make_log(task, kind="task.completed")
    return task


def charge(task: Task, number: int) -> None:
    ledger.charge(
        hold_reference=f"task:{task.pk}", microcredits=1,
        reference=f"task:{task.pk}:call:{number}", description="",
    )  # fmt: skip


def test_a_task_that_was_left_alone_has_no_losses(task: Task) -> None:
    asked = len(load.SCRIPT)
    assert load.losses_of(task, asked=asked, is_disturbed=False) == []
    assert load.losses_of(task, asked=asked, is_disturbed=True) == []


def _run_twice(task: Task) -> None:
    make_log(task, kind="task.started")


def _taken_up_again(task: Task) -> None:
    make_log(task, kind="task.resumed")


def _ended_twice(task: Task) -> None:
    make_log(task, kind="task.failed")


def _gap(task: Task) -> None:
    make_log(task).delete()
    make_log(task)


def _unpaid(task: Task) -> None:
    make_step(task, kind=Step.Kind.MODEL_CALL)


def _stuck(task: Task) -> None:
    Task.objects.update(status="running")


def _held(task: Task) -> None:
    CreditHold.objects.update(is_open=True)


def _overcharged(task: Task) -> None:
    Task.objects.update(charged_microcredits=1)


def _lost(task: Task) -> None:
    make_step(task, state=Step.State.LOST)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_run_twice, "it was started 2 times"),
        (_taken_up_again, "it was taken up 2 times"),
        (_ended_twice, "it has 2 terminal events"),
        (_gap, "its events have a gap"),
        (_unpaid, "4 calls were charged"),
        (_stuck, "it ended running"),
        (_held, "its hold is still open"),
        (_overcharged, "its charges are not what it says"),
        (_lost, "1 steps were lost"),
    ],
)
def test_a_task_that_was_harmed_is_found(
    task: Task, harm: Callable[[Task], None], said: str
) -> None:
    harm(task)
    task.refresh_from_db()
    assert said in load.losses_of(task, asked=len(load.SCRIPT), is_disturbed=False)


def test_a_call_more_is_a_loss_unless_the_journal_knows_it_as_lost(task: Task) -> None:
    asked = len(load.SCRIPT) + 1
    assert load.losses_of(task, asked=asked, is_disturbed=True) == [
        "5 calls were asked for, 0 are lost"
    ]
    make_step(task, kind=Step.Kind.MODEL_CALL, state=Step.State.LOST)
    assert load.losses_of(task, asked=asked, is_disturbed=True) == []


def test_lines_that_were_written_twice_are_found(task: Task) -> None:
    load.DIFF.append("+line 0")
    assert load.losses_of(task, asked=len(load.SCRIPT), is_disturbed=False) == ["its lines are []"]


# --- followers ------------------------------------------------------------------------------------


@contextmanager
def telling(numbers: list[int], asked: list[str]) -> Iterator[str]:
    """Serve these event numbers to whoever connects; each connection ends after two of them."""

    def tell(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.append(socket.request.path)
        socket.send(json.dumps({"type": "connected"}))
        for _ in range(min(2, len(numbers))):
            socket.send(json.dumps({"event": "x", "sequence": numbers.pop(0)}))
        socket.close(1001 if numbers else 1000)

    with serve(tell, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws?token=x"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("numbers", "faults"),
    [
        ([1, 2, 3], []),
        ([1, 3, 4], ["of 3 events 1 were missed and 0 told twice, or not in order"]),
        ([1, 2, 2, 3], ["of 3 events 0 were missed and 1 told twice, or not in order"]),
        ([2, 1, 3], ["of 3 events 0 were missed and 0 told twice, or not in order"]),
    ],
)
def test_a_follower_finds_gaps_and_doubles_over_cuts(numbers: list[int], faults: Any) -> None:
    asked: list[str] = []
    with telling(list(numbers), asked) as url:
        follower = Follower(url)
        assert follower.wait(numbers[-1], seconds=60)
        follower.stop()
    assert follower.seen == numbers
    assert [fault.partition(";")[0] for fault in follower.faults(3)] == faults
    assert asked[1] == f"/ws?token=x&after={numbers[1]}"


def test_strange_messages_are_none_that_the_platform_sends() -> None:
    good = json.dumps(
        {
            "queue_name": "tasks",
            "actor_name": "run_due",
            "args": ["x"],
            "kwargs": {},
            "options": {"redis_message_id": "x"},
        }
    ).encode()
    strange = broker.strangers(good)
    assert good not in strange
    assert len(set(strange)) == len(strange)
