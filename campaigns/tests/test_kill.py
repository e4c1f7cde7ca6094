"""The campaign ``kill``: its small size, and that each of its checks can fail."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from asynccoder.tests.processes import ROOT, ending_with_us
from campaigns.kill import script
from campaigns.kill.points import BOUNDARY, PLACES, STEPS, TARGETS, plan
from campaigns.kill.verdict import (
    Account,
    Facts,
    StepFact,
    losses_of,
    losses_of_account,
    losses_of_given_up,
)

GOOD = Facts(
    name="task 1",
    diff="+line",
    tree="t1",
    steps=[
        StepFact(1, "platform", "done"),
        StepFact(2, "model_call", "lost"),
        StepFact(2, "model_call", "done", 7),
        StepFact(3, "tool_call", "done"),
        StepFact(4, "model_call", "done", 9),
    ],
    charges={"2": 7, "4": 9},
    charged=16,
    told=[7, 9],
    requests={1: 2, 2: 1},
    events=[(1, "task.started"), (2, "task.resumed"), (3, "task.completed")],
    lost_attempts=1,
    kills=1,
    pushes=["c1"],
    result="c1",
    taken_up=[12.0],
)
GIVEN_UP = replace(
    GOOD, status="failed", error_code="worker_lost", pushes=[], result="", is_pushed=False,
    events=[(1, "task.started"), (2, "task.failed")],
)  # fmt: skip
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"status": "failed", "error_code": "internal"}, "ended failed internal"),
    ({"diff": "+line\n+line"}, "the diff is not"),
    ({"tree": "t2"}, "the tree is not"),
    ({"steps": GOOD.steps[1:]}, "the steps are not"),
    ({"charges": {"2": 7, "4": 9, "6": 9}, "charged": 25}, "a charge without a settled call: step 6"),
    ({"charges": {"2": 14, "4": 9}, "charged": 23}, "step 2 was settled at 7 and charged 14"),
    ({"charges": {"2": 7}, "charged": 7}, "step 4 was settled at 9 and charged None"),
    ({"told": [8, 9]}, "do not cost what the model server told"),
    ({"charged": 17}, "the task says 17 and the ledger 16"),
    ({"released": False}, "its hold is still open"),
    ({"requests": {1: 3, 2: 1}}, "call 1 was asked 3 times and the journal knows 2"),
    ({"requests": {1: 2, 2: 2}}, "call 2 was asked 2 times and the journal knows 1"),
    ({"requests": {1: 2, 2: 1, 3: 1}}, "call 3 was asked 1 times and the journal knows 0"),
    ({"requests": {1: 2}}, "call 2 was settled and the model server was never asked"),
    ({"steps": [*GOOD.steps, GOOD.steps[-1]]}, "step 4 was settled 2 times"),
    ({"steps": [*GOOD.steps, StepFact(5, "tool_call", "started")]}, "steps still open: [5]"),
    ({"events": [(1, "task.started"), (3, "task.completed")]}, "a gap or a number twice"),
    ({"events": [(1, "a"), (2, "b"), (2, "c"), (3, "task.completed")]}, "a gap or a number twice"),
    ({"events": [(1, "task.completed"), (2, "task.failed")]}, "2 terminal events"),
    ({"events": [(1, "task.started")]}, "0 terminal events"),
    ({"lost_attempts": 2}, "2 lost attempts and 1 kills"),
    ({"pushes": ["c1", "c1"]}, "the branch was not pushed once"),
    ({"pushes": ["c2"]}, "the branch was not pushed once"),
    ({"pushes": []}, "the branch was not pushed once"),
    ({"is_pushed": False}, "the branch was not pushed once"),
    ({"taken_up": [12.0, 60.5]}, "taken up only after 60 s"),
    ({"left": ["store.git/incoming-x"]}, "left behind: store.git/incoming-x"),
]  # fmt: skip


def test_a_task_that_came_out_the_same_has_lost_nothing() -> None:
    assert losses_of(GOOD, GOOD) == []
    assert losses_of_given_up(GIVEN_UP) == []


@pytest.mark.parametrize(("values", "loss"), WRONG)
def test_each_check_can_fail(values: dict[str, Any], loss: str) -> None:
    found = losses_of(replace(GOOD, **values), GOOD)
    assert any(loss in line for line in found), found


@pytest.mark.parametrize(
    ("values", "loss"),
    [
        ({"error_code": "internal"}, "ended failed internal and not as worker_lost"),
        ({"status": "completed", "error_code": ""}, "not as worker_lost"),
        ({"charges": {"2": 7, "4": 18}, "charged": 25}, "step 4 was settled at 9 and charged 18"),
        ({"released": False}, "its hold is still open"),
        ({"requests": {1: 3}}, "call 1 was asked 3 times"),
        ({"pushes": ["c1"]}, "a branch was pushed"),
        ({"left": ["layers-1-a"]}, "layers-1-a"),
    ],
)
def test_a_task_that_was_given_up_is_judged_too(values: dict[str, Any], loss: str) -> None:
    found = losses_of_given_up(replace(GIVEN_UP, **values))
    assert any(loss in line for line in found), found


@pytest.mark.parametrize(
    ("values", "loss"),
    [
        ({"charged": 17}, "the balance is 84 after charges of 17"),
        ({"entries": [(1, 100), (2, -32)]}, "not the sum of its entries"),
        ({"entries": [(1, 100), (3, -32), (4, 16)]}, "the ledger has a gap"),
        ({"feed": [1, 2, 2]}, "the owner's feed has a gap or a number twice"),
        ({"feed": [1, 3]}, "the owner's feed has a gap or a number twice"),
        ({"held": 5}, "5 microcredits are still held"),
        ({"places": 1}, "1 places of the owner are still taken"),
    ],
)
def test_the_account_is_judged_too(values: dict[str, Any], loss: str) -> None:
    account = Account(
        granted=100, charged=16, balance=84, held=0, entries=[(1, 100), (2, -32), (3, 16)],
        feed=[1, 2, 3], places=0,
    )  # fmt: skip
    assert losses_of_account(account) == []
    assert loss in losses_of_account(replace(account, **values))[0]


def test_the_plan_has_every_boundary_every_place_and_every_target() -> None:
    plans = plan(120, tasks=6, seed=1)
    shots = [shot for shots in plans for shot in shots]
    assert len(shots) == 120
    assert {s.point.call for s in shots if s.point.place is BOUNDARY} == set(STEPS)
    assert {shot.point.place.what for shot in shots} == {place.what for place in PLACES}
    assert {shot.target for shot in shots} == set(TARGETS)
    for shots in plans:
        orders = [shot.point.order for shot in shots]
        assert orders == sorted(set(orders))


def test_the_script_is_thirty_steps_and_two_finishes() -> None:
    names = [script.turn(call)["tool_calls"][0]["name"] for call in range(1, script.CALLS + 1)]
    assert names[-2:] == ["finish", "finish"]
    assert len(names) == 32
    assert set(names) == {"bash", "edit", "view", "search", "finish"}


@pytest.mark.services
@pytest.mark.timeout(900)
def test_sixty_kills_lose_nothing() -> None:
    command = ending_with_us([sys.executable, "-m", "campaigns", "kill", "--count", "66"])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    killed = re.search(r"- runs killed: (\d+)", done.stdout)
    assert killed, done.stdout
    assert int(killed[1]) >= 60
