"""Every call of a run is counted once, in the transaction that settles it."""

from __future__ import annotations

import pytest

from accounts.models import User
from aimodels import keys
from aimodels.models import KeyUsage, ModelUsage, ProviderKey
from aimodels.providers.base import ContextOverflow, MalformedReply, ProviderBusy, ProviderRefused
from tasks.errors import LeaseLost
from tasks.journal import RunJournal
from tasks.models import Task
from tasks.records import Money
from tasks.tests.test_journal import COST, USAGE, Calls, ask, journal_of, reply, task

__all__ = ["task"]
pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def key(alice: User) -> ProviderKey:
    return keys.add(user=alice, provider="openai", plain="sk-alice-own-key-000000")


def journal_with(task: Task, key: ProviderKey) -> RunJournal:
    task.refresh_from_db()
    money = Money(task.model, task.cap_microcredits, is_own_key=True, key_id=key.pk)
    return RunJournal(task, money)


def test_a_call_is_counted_once_however_often_it_is_replayed(task: Task) -> None:
    for _ in range(3):
        ask(journal_of(task), Calls(reply()))
    row = ModelUsage.objects.get()
    assert (row.user, row.model, row.task_type) == (task.owner, task.model, task.type)
    assert row.repository_id == task.repository_id
    assert (row.calls, row.failures, row.charged_microcredits) == (1, 0, COST)
    assert (row.input_tokens, row.output_tokens) == (1_000, 100)
    assert not KeyUsage.objects.exists()


def test_with_an_own_key_the_call_is_in_its_log(task: Task, key: ProviderKey) -> None:
    ask(journal_with(task, key), Calls(reply()))
    entry, row = KeyUsage.objects.get(), ModelUsage.objects.get()
    assert (entry.key_id, entry.reference) == (key.pk, f"task:{task.pk}:call:1")
    assert (entry.input_tokens, entry.output_tokens, entry.failure) == (1_000, 100, "")
    assert (row.own_key_calls, row.charged_microcredits) == (1, 0)


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        (ProviderBusy("busy", retry_after=5), 0),
        (ProviderRefused("no", reason="key_refused"), 0),
        (MalformedReply("cut", usage=USAGE), 1_000),
        (ContextOverflow("long"), 0),
    ],
)
def test_a_call_that_fails_is_counted_as_that(
    task: Task, key: ProviderKey, error: Exception, tokens: int
) -> None:
    with pytest.raises(type(error)):
        ask(journal_with(task, key), Calls(error))
    row, entry = ModelUsage.objects.get(), KeyUsage.objects.get()
    assert (row.calls, row.failures, row.input_tokens) == (1, 1, tokens)
    assert (entry.failure, entry.input_tokens) == (type(error).__name__, tokens)


@pytest.mark.parametrize("effect", [reply(), ProviderBusy("busy", retry_after=5)])
def test_a_stale_run_counts_nothing(task: Task, key: ProviderKey, effect: object) -> None:
    journal = journal_with(task, key)

    def taken_over() -> object:
        Task.objects.update(generation=task.generation + 1)
        return Calls(effect)()

    with pytest.raises(LeaseLost):
        ask(journal, taken_over)  # type: ignore[arg-type]  # an effect of any result
    assert not ModelUsage.objects.exists()
    assert not KeyUsage.objects.exists()
