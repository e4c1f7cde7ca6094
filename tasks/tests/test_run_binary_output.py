"""Commands that print what no database takes: a NUL is shown as a mark, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from asynccoder.tests.processes import Process
from tasks.models import Check
from tasks.tests.world import World, bash, build_world, finish

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.services,
]
# Git takes a file for text when its first 8000 bytes hold no NUL.
LATE_NUL = "head -c 9000 /dev/zero | tr '\\0' a > big.txt; printf '\\nx\\0y\\n' >> big.txt"


@pytest.fixture
def world(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path, settings: Any
) -> Iterator[World]:
    settings.OPENAI_API_KEY = "sk-platform-key"
    script = [bash(LATE_NUL), *finish()]
    with build_world(alice, script, worker_process, tmp_path / "repository") as built:
        yield built


def test_a_nul_in_a_difference_and_in_a_check_is_shown_as_a_mark(world: World) -> None:
    world.repository.check_commands = ["printf 'a\\0b'"]
    world.repository.save()
    task = world.create()
    world.worker()
    world.finished(task)
    assert (task.status, task.error_message, task.lost_attempts) == ("completed", "", 0)
    assert "+x\ufffdy" in task.result.diff
    assert {check.output for check in Check.objects.filter(task=task)} == {"a\ufffdb"}


def test_a_nul_in_what_the_setup_says_is_shown_as_a_mark(world: World) -> None:
    world.repository.setup_command = "printf 'a\\0b'; exit 1"
    world.repository.save()
    task = world.create()
    world.worker()
    world.finished(task)
    assert (task.error_code, task.lost_attempts) == ("setup_failed", 0)
    assert task.error_message.endswith("a\ufffdb")
