"""The campaign ``deploy``: its small size, and that its checks of a task can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from accounts.models import User
from asynccoder.tests.processes import ROOT, ending_with_us
from campaigns import deploy
from tasks.models import Step
from tasks.tests.make import make_log, make_step, make_task


@pytest.mark.services
@pytest.mark.timeout(900)
def test_five_restarts_under_load_lose_and_double_nothing() -> None:
    done = subprocess.run(
        ending_with_us([sys.executable, "-m", "campaigns", "deploy", "--count", "5"]),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Losses: 0" in done.stdout
    assert "| all | 5 |" in done.stdout


def test_what_is_lost_or_doubled_is_told(alice: User) -> None:
    task = make_task(owner=alice, status="failed", lost_attempts=1, charged_microcredits=7)
    make_step(task, kind=Step.Kind.MODEL_CALL, state=Step.State.LOST)
    make_log(task, kind="task.failed")
    make_log(task, kind="task.failed").delete()
    make_log(task, kind="task.failed")
    assert deploy.losses_of(task, asked=9) == [
        "it ended failed",
        "its lines are []",
        "1 attempts were counted as lost",
        "1 steps were lost",
        "0 calls were settled",
        "9 calls were asked for",
        "0 calls were charged",
        "its charges are not what it says",
        "its events have a gap",
        "it has 2 terminal events",
    ]
