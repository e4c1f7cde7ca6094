"""Creating, editing and cancelling a task: what is refused, and what is held."""

from __future__ import annotations

import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from accounts.models import User
from aimodels.models import AIModel
from asynccoder.lib.errors import AppError, NotAllowed, NotFound, OutOfCredit
from billing import ledger
from repositories.models import Repository, RepositoryAccess
from tasks import actors, lease, lifecycle
from tasks.errors import IdempotencyConflict, PromptTooLong, TaskFinished, TaskStarted
from tasks.lifecycle import TaskRequest
from tasks.models import Status, Task
from tasks.tests.make import make_model, make_repository, make_task

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the hints of the doorbell; no worker of this test would hear it."""
    hints: list[str] = []
    monkeypatch.setattr(actors, "ring", hints.append)
    return hints


@pytest.fixture
def repository(alice: User, tmp_path: Path) -> Repository:
    return make_repository(owner=alice, kind="local", url=str(tmp_path / "gone"))


@pytest.fixture
def priced(settings: Any) -> AIModel:
    settings.OPENAI_API_KEY = "sk-platform"
    price = Decimal("0.000001")
    return make_model(
        provider="openai", name="m", display_name="M", input_price=price, output_price=price,
        cached_input_price=price,
    )  # fmt: skip


def ask_for(repository: Repository | None, **values: Any) -> TaskRequest:
    defaults: dict[str, Any] = {
        "type": "debug",
        "prompt": "Fix the rounding.",
        "model": make_model(),
    }
    return TaskRequest(repository=repository, **(defaults | values))


def create(owner: User, request: TaskRequest) -> Task:
    task, _ = lifecycle.create_task(owner=owner, request=request)
    return task


def test_a_task_is_written_held_announced_and_rung(
    alice: User, repository: Repository, priced: AIModel, rung: list[str]
) -> None:
    ledger.grant(user_id=alice.pk, microcredits=100_000_000, reference="gift")
    task = create(alice, ask_for(repository, model=priced))
    assert (task.status, task.title, rung) == (Status.PENDING, "Fix the rounding.", [str(task.pk)])
    assert ledger.balance(alice.pk).held == task.estimated_microcredits > 0
    assert [row.kind for row in task.log.all()] == ["task.created"]
    assert alice.feed_events.filter(event="task:status_updated").count() == 1


def test_a_free_task_needs_no_credits(alice: User, repository: Repository, rung: list[str]) -> None:
    task = create(alice, ask_for(repository))
    assert (task.estimated_microcredits, ledger.balance(alice.pk).held) == (0, 0)


def test_fifty_creates_at_once_on_a_balance_for_ten(
    alice: User, repository: Repository, priced: AIModel, rung: list[str]
) -> None:
    request = ask_for(repository, model=priced)
    one = lifecycle.estimate(alice, priced, request)
    ledger.grant(user_id=alice.pk, microcredits=10 * one, reference="gift")
    results: list[str] = []
    barrier = threading.Barrier(50)

    def work() -> None:
        barrier.wait()
        try:
            create(alice, request)
            results.append("created")
        except OutOfCredit:
            results.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results.count("created"), results.count("refused")) == (10, 40)
    balance = ledger.balance(alice.pk)
    assert (balance.balance, balance.held) == (0, 10 * one)
    assert (Task.objects.count(), len(rung)) == (10, 10)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"prompt": "  "}, AppError),
        ({"prompt": "x" * 40_000}, PromptTooLong),
        ({"prompt": "a\0b"}, AppError),
        ({"type": "dance"}, AppError),
        ({"branch": "--upload-pack=x"}, AppError),
        ({"branch": "a\nb"}, AppError),
        ({"target_branch": "a..b"}, AppError),
        ({"patch": "diff"}, AppError),
        ({"extra_calls": 3}, AppError),
        ({"cap_microcredits": 0}, AppError),
        ({"files": [{"path": "a", "content": "1"}, {"path": "a", "content": "2"}]}, AppError),
        ({"files": [{"path": "a", "content": ""}, {"path": "a/b", "content": ""}]}, AppError),
        ({"type": "ask", "files": [{"path": "a.py", "content": "x"}]}, AppError),
        ({"files": [{"path": "../x", "content": ""}]}, AppError),
        ({"files": [{"path": "/etc/passwd", "content": ""}]}, AppError),
        ({"files": [{"path": ".git/config", "content": ""}]}, AppError),
        ({"files": [{"path": "a", "content": "x" * (3 * 1024**2)}]}, PromptTooLong),
    ],
)
def test_bad_input_is_refused_before_anything_is_held(
    alice: User, repository: Repository, values: dict[str, Any], error: type[AppError]
) -> None:
    with pytest.raises(error):
        create(alice, ask_for(repository, **values))
    assert not Task.objects.exists()


def test_an_unknown_price_is_refused_not_free(
    alice: User, repository: Repository, priced: AIModel
) -> None:
    AIModel.objects.filter(pk=priced.pk).update(output_price=None)
    priced.refresh_from_db()
    with pytest.raises(AppError, match="price"):
        create(alice, ask_for(repository, model=priced))


def test_a_model_without_the_capability_is_refused(alice: User, repository: Repository) -> None:
    AIModel.objects.filter(pk=make_model().pk).update(capabilities=["ask"])
    with pytest.raises(AppError):
        create(alice, ask_for(repository))


def test_only_who_may_write_starts_tasks(
    alice: User, mallory: User, victor: User, repository: Repository, rung: list[str]
) -> None:
    with pytest.raises(NotFound):
        create(mallory, ask_for(repository))
    with pytest.raises(NotAllowed):
        create(victor, ask_for(repository))
    access = RepositoryAccess.objects.create(repository=repository, user=mallory, level="read")
    with pytest.raises(NotAllowed):
        create(mallory, ask_for(repository))
    access.level = "write"
    access.save()
    assert create(mallory, ask_for(repository)).owner == mallory


def test_an_ask_needs_a_repository_and_a_build_does_not(
    alice: User, priced: AIModel, rung: list[str]
) -> None:
    ledger.grant(user_id=alice.pk, microcredits=100_000_000, reference="gift")
    with pytest.raises(AppError, match="repository"):
        create(alice, ask_for(None, type="ask", model=priced))
    assert create(alice, ask_for(None, type="build", model=priced)).repository is None


def test_an_idempotency_key_makes_one_task(
    alice: User, mallory: User, repository: Repository, rung: list[str]
) -> None:
    first = create(alice, ask_for(repository, idempotency_key="k"))
    assert create(alice, ask_for(repository, idempotency_key="k")) == first
    with pytest.raises(IdempotencyConflict):
        create(alice, ask_for(repository, idempotency_key="k", prompt="Another."))
    other = make_repository(owner=mallory, kind="local", url="/nowhere")
    assert create(mallory, ask_for(other, idempotency_key="k")) != first


def test_ten_requests_with_one_key_at_once_make_one_task(
    alice: User, repository: Repository, rung: list[str]
) -> None:
    made: list[Task] = []
    request = ask_for(repository, idempotency_key="k")

    def work() -> None:
        try:
            made.append(create(alice, request))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len({task.pk for task in made}), len(rung)) == (10, 1, 1)


def test_a_pending_task_is_edited_and_a_running_one_is_not(alice: User) -> None:
    task = lifecycle.edit_task(make_task(owner=alice), by=alice, title="New", priority=3)
    assert (task.title, task.priority) == ("New", 3)
    lease.claim(worker="one")
    with pytest.raises(TaskStarted):
        lifecycle.edit_task(task, by=alice, title="Later")


def test_nobody_edits_what_is_not_his(alice: User, mallory: User, victor: User) -> None:
    for task, user in [
        (make_task(owner=alice), mallory),
        (make_task(owner=alice), victor),
        # Made before its owner became a viewer.
        (make_task(owner=victor), victor),
    ]:
        with pytest.raises(NotAllowed):
            lifecycle.edit_task(task, by=user, title="Mine")
        task.refresh_from_db()
        assert task.title != "Mine"


def test_a_pending_task_is_cancelled_at_once(alice: User) -> None:
    ledger.grant(user_id=alice.pk, microcredits=5, reference="gift")
    task = lifecycle.cancel_task(make_task(owner=alice, held=5), by=alice)
    assert task.status == Status.CANCELLED
    assert ledger.balance(alice.pk).balance == 5
    with pytest.raises(TaskFinished):
        lifecycle.cancel_task(task, by=alice)


def test_a_running_task_is_asked_to_end_once(alice: User) -> None:
    task = make_task(owner=alice)
    lease.claim(worker="one")
    for _ in range(2):
        assert lifecycle.cancel_task(task, by=alice).cancel_requested_at is not None
    assert task.log.filter(kind="task.cancel_requested").count() == 1
    assert [claimed.task_id for claimed in lease.cancelled_runs("one")] == [task.pk]


def test_a_cancelled_run_that_loses_its_worker_ends_as_cancelled(alice: User) -> None:
    task = make_task(owner=alice)
    claimed = lease.claim(worker="one")
    assert claimed is not None
    lifecycle.cancel_task(task, by=alice)
    lease.give_back(claimed, is_lost=True)
    task.refresh_from_db()
    assert task.status == Status.CANCELLED


def test_nobody_cancels_what_is_not_his(alice: User, mallory: User, victor: User) -> None:
    task = make_task(owner=alice)
    for user in (mallory, victor):
        with pytest.raises(NotAllowed):
            lifecycle.cancel_task(task, by=user)


def test_a_title_is_the_prompts_first_line() -> None:
    assert lifecycle.title_of("Fix it\n\nplease") == "Fix it"
    assert lifecycle.title_of("word " * 40) == "word " * 15 + "word…"
