"""A provider that fails, at the small size, and what the campaign says when money goes wrong."""

from __future__ import annotations

import pytest

from accounts.models import User
from billing import ledger
from campaigns import providers
from campaigns.providers import Case
from campaigns.tests.commands import play
from tasks.models import Step, Task
from tasks.tests.make import make_step, make_task

CREDIT = ledger.MICROCREDITS


@pytest.mark.services
@pytest.mark.timeout(600)
def test_the_small_size_has_no_losses() -> None:
    told = play("providers", count=8)
    for ending in ("completed", "model_key_refused", "conversation_too_long", "cap_reached"):
        assert f"| {ending} |" in told


@pytest.fixture
def task(alice: User) -> Task:
    """A task with one settled call of a credit."""
    ledger.grant(user_id=alice.pk, microcredits=10 * CREDIT, reference="gift")
    task = make_task(
        owner=alice, held=2 * CREDIT, charged_microcredits=CREDIT, cap_microcredits=2 * CREDIT
    )
    charge(task, 1)
    make_step(task, kind=Step.Kind.MODEL_CALL, cost_microcredits=CREDIT)
    ledger.release(hold_reference=f"task:{task.pk}")
    return task


def charge(task: Task, number: int) -> None:
    ledger.charge(
        hold_reference=f"task:{task.pk}", microcredits=CREDIT,
        reference=f"task:{task.pk}:call:{number}", description="",
    )  # fmt: skip


def test_a_call_that_was_charged_without_an_answer_is_found(task: Task) -> None:
    assert providers.money_faults(task) == []
    task.steps.update(state=Step.State.LOST)
    assert providers.money_faults(task) == [
        "1000000 charged, 0 settled, 1000000 shown",
        "1 charges for 0 calls",
    ]


def test_what_is_shown_and_not_charged_is_found(task: Task) -> None:
    task.charged_microcredits = 5
    assert providers.money_faults(task) == ["1000000 charged, 1000000 settled, 5 shown"]


def test_a_charge_above_the_cap_is_found(task: Task) -> None:
    task.cap_microcredits = CREDIT - 1
    assert providers.money_faults(task) == ["1000000 is above the cap of 999999"]


def test_a_hold_that_stays_open_is_found(task: Task, alice: User) -> None:
    ledger.hold(
        user_id=alice.pk, microcredits=CREDIT, reference=f"task:{task.pk}:more", description=""
    )
    other = make_task(owner=alice, held=CREDIT)
    assert providers.money_faults(task) == []
    assert providers.money_faults(other) == ["its hold is still open"]


def test_another_ending_than_was_decided_is_found(task: Task) -> None:
    case = Case("429", "first call", "completed", lost=1)
    _, faults = providers.outcome(case, task, asked=2)
    assert [fault.partition(": ")[2].partition(": ")[2] for fault in faults] == [
        "ended as pending (), not as completed",
        "the provider was asked 2 times for 1 + 0 calls",
        "0 calls are lost, not 1",
    ]


def test_every_place_and_fault_is_played_at_the_long_size() -> None:
    whole = providers.cases(cuts=200, is_whole=True)
    small = providers.cases(cuts=8, is_whole=False)
    assert {case.name for case in small if "cut" not in case.name} == {
        case.name for case in whole if "cut" not in case.name
    }
    offsets = [
        fault["truncate_after"]
        for case in whole
        for faults in case.faults.values()
        for fault in faults
        if "truncate_after" in fault
    ]
    assert len(set(offsets)) == 200
