"""Outages under load, at the small size, and what the campaign says when something was lost."""

from __future__ import annotations

import errno
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from aimodels.tests.model_server import serve
from billing import ledger
from campaigns import __main__ as command
from campaigns import load, own_postgres, small_disk
from campaigns.load import Load, Model
from campaigns.outages import AWAY, ON_POSTGRES, ON_SQLITE, Play
from campaigns.report import Report
from campaigns.tests.commands import play
from tasks.tests.make import make_task
from tasks.tests.world import World


@pytest.mark.timeout(900)
def test_the_small_size_has_no_losses() -> None:
    told = play("outages", count=4)
    for outage in ON_SQLITE:
        assert f"| {outage} | SQLite |" in told
    if own_postgres.tools():
        assert all(f"| {outage} | PostgreSQL |" in told for outage in ON_POSTGRES)
    # What cannot be played here is said so, and nothing else is left out.
    assert told.count("skipped") == (0 if os.geteuid() == 0 else 2) + (
        0 if own_postgres.tools() else 1
    )


@pytest.fixture
def lived(alice: User) -> Any:
    """A load whose tasks and model calls are the test's."""
    model = Model()
    with serve(model) as server:
        world = World(alice, None, server, None, lambda **_: None, {})  # type: ignore[arg-type]  # nothing is run
        yield Load(world, model)


def fail(alice: User, number: int, **values: Any) -> None:
    make_task(
        owner=alice, prompt=f"Write the lines: numbered task {number}.", status="failed",
        generation=1, **values,
    )  # fmt: skip


@pytest.mark.django_db
def test_a_task_that_was_accepted_and_is_gone_is_found(lived: Load, alice: User) -> None:
    lived.accepted = {7}
    assert lived.losses() == ["task 7 was accepted and is not there"]
    for _ in range(2):
        fail(alice, 7)
    assert "task 7 is there twice" in lived.losses()


@pytest.mark.django_db
def test_only_who_may_fail_may_and_only_as_it_was_decided(lived: Load, alice: User) -> None:
    fail(alice, 1, error_code="disk_full")

    def endings(may_fail: dict[int, list[str]]) -> list[str]:
        return [loss for loss in lived.losses(may_fail=may_fail) if "it ended" in loss]

    assert endings({1: ["disk_full"]}) == []
    assert endings({2: ["disk_full"]}) == ["task 1: it ended failed disk_full"]
    assert endings({1: ["worker_lost"]}) == ["task 1: it ended failed disk_full"]


@pytest.mark.django_db
def test_a_charge_for_a_task_that_failed_is_still_judged(lived: Load, alice: User) -> None:
    ledger.grant(user_id=alice.pk, microcredits=100, reference="gift")
    fail(alice, 1, error_code="disk_full", charged_microcredits=5)
    told = lived.losses(may_fail={1: ["disk_full"]})
    assert "task 1: its charges are not what it says" in told


def test_an_answer_that_was_not_decided_is_a_loss(
    lived: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report("Outages", [])
    answers = iter([AWAY, "500 INTERNAL_ERROR"])
    played = Play(None, lived, None, report, 1, "", "")  # type: ignore[arg-type]  # neither stage nor Redis is asked

    def post(url: str, token: str) -> str:
        answer = next(answers, AWAY)
        lived.answers[answer] += 1
        return answer

    monkeypatch.setattr(lived, "post", post)
    assert played.feed(0.2, expected=[AWAY])[AWAY]
    assert report.losses == ["the API answered {'500 INTERNAL_ERROR': 1}"]


def test_without_postgres_its_outages_are_said_to_be_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_postgres, "tools", lambda: None)
    report = command.play_on_own_postgres(Namespace(name="outages"))
    assert "skipped: it is not installed" in report.markdown()


def test_without_root_there_is_no_small_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(small_disk.NoDisk), small_disk.mounted(tmp_path, mib=1):
        raise AssertionError("nothing may be mounted")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_a_filled_disk_takes_no_byte_and_comes_back(tmp_path: Path) -> None:
    with small_disk.mounted(tmp_path, mib=2):
        with small_disk.filled(tmp_path):
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                (tmp_path / "more").write_bytes(b"x" * 4096)
            assert small_disk.free_bytes(tmp_path) == 0
        assert small_disk.free_bytes(tmp_path) > small_disk.MIB
    assert list(tmp_path.iterdir()) == []


def test_the_model_says_something_else_to_who_is_asked_for_something_else() -> None:
    model = Model()
    model.others[3] = [{"text": "another"}]
    for number, said in ((3, {"text": "another"}), (4, load.SCRIPT[0])):
        body = {"messages": [{"role": "user", "content": f"numbered task {number}."}]}
        assert model(body) == said
    assert model.waiting == 0
