"""The journal: what is done is never done or paid again; what is stale writes nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from accounts.models import User
from aimodels.models import AIModel
from aimodels.providers.base import (
    ContextOverflow,
    MalformedReply,
    ProviderBusy,
    Reply,
    ToolCall,
    Usage,
)
from billing import ledger
from billing.models import LedgerEntry
from tasks import lease
from tasks.agent.errors import OutOfBudget
from tasks.agent.ports import ToolResult
from tasks.errors import CheckpointRefused, LeaseLost, RunStopped
from tasks.journal import RunJournal
from tasks.models import Artifact, Step, Task
from tasks.records import Checkpoint, Money
from tasks.tests.make import make_task
from tasks.tests.test_lease import expire

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]
PRICE = Decimal("0.000001")
USAGE = Usage(input=1_000, output=100)
COST = 110_000
"""1,100 tokens at a millionth of a dollar, in microcredits of US$0.01 a credit."""


def reply(text: str = "hello") -> Reply:
    return Reply(text, (ToolCall("1", "bash", "{}"),), "tool_calls", USAGE, '{"role":"assistant"}')


@pytest.fixture
def task(alice: User) -> Task:
    ledger.grant(user_id=alice.pk, microcredits=10_000_000, reference="gift")
    model = AIModel.objects.create(
        provider="openai", name="m", display_name="M", input_price=PRICE, output_price=PRICE,
        cached_input_price=PRICE, context_window=100_000,
    )  # fmt: skip
    task = make_task(owner=alice, model=model, cap_microcredits=5_000_000, base_commit="a" * 40)
    lease.claim(worker="one")
    task.refresh_from_db()
    return task


def journal_of(task: Task, *, is_own_key: bool = False) -> RunJournal:
    task.refresh_from_db()
    return RunJournal(task, Money(task.model, task.cap_microcredits, is_own_key))


class Calls:
    """An effect that counts how often it happens, and then returns or raises."""

    def __init__(self, result: object) -> None:
        self.result = result
        self.times = 0

    def __call__(self) -> object:
        self.times += 1
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def ask(journal: RunJournal, effect: Calls, **values: object) -> Reply:
    arguments = {"digest": "d", "request_bytes": 2_000, "max_output_tokens": 500} | values
    return journal.model_call(effect=effect, **arguments)  # type: ignore[arg-type]  # an effect of any result


def run_tool(journal: RunJournal, effect: Calls, *, changes: bool = False) -> ToolResult:
    return journal.tool_call(name="bash", arguments="{}", changes=changes, effect=effect)  # type: ignore[arg-type]  # an effect of any result


def test_an_answered_call_is_neither_made_nor_paid_again(task: Task) -> None:
    effect = Calls(reply())
    first = ask(journal_of(task), effect)
    again = ask(journal_of(task), effect)
    assert first == again
    assert effect.times == 1
    task.refresh_from_db()
    assert (task.charged_microcredits, task.input_tokens, task.output_tokens) == (COST, 1_000, 100)
    charges = LedgerEntry.objects.filter(kind="charge")
    assert [entry.reference for entry in charges] == [f"task:{task.pk}:call:1"]


def test_a_call_whose_answer_died_is_lost_repeated_and_paid_once(task: Task) -> None:
    dying = Calls(SystemExit("killed"))
    with pytest.raises(SystemExit):
        ask(journal_of(task), dying)
    ask(journal_of(task), Calls(reply()))
    states = list(task.steps.order_by("attempt").values_list("ordinal", "attempt", "state"))
    assert states == [(1, 1, "lost"), (1, 2, "done")]
    task.refresh_from_db()
    assert task.charged_microcredits == COST


def test_a_busy_provider_costs_nothing(task: Task) -> None:
    with pytest.raises(ProviderBusy):
        ask(journal_of(task), Calls(ProviderBusy("busy", retry_after=5)))
    task.refresh_from_db()
    assert task.charged_microcredits == 0
    assert task.steps.get().state == Step.State.LOST


def test_a_malformed_reply_is_charged_and_raised_again_on_resume(task: Task) -> None:
    broken = Calls(MalformedReply("cut", usage=USAGE))
    for _ in range(2):
        with pytest.raises(MalformedReply, match="cut"):
            ask(journal_of(task), broken)
    assert broken.times == 1
    task.refresh_from_db()
    assert task.charged_microcredits == COST


def test_a_conversation_too_long_is_remembered(task: Task) -> None:
    for _ in range(2):
        with pytest.raises(ContextOverflow):
            ask(journal_of(task), Calls(ContextOverflow("long")))
    task.refresh_from_db()
    assert task.charged_microcredits == 0


def test_the_cap_stops_a_call_before_it_is_made(task: Task) -> None:
    Task.objects.update(cap_microcredits=100_000)
    effect = Calls(reply())
    with pytest.raises(OutOfBudget) as caught:
        ask(journal_of(task), effect)
    assert (caught.value.limit, effect.times) == ("money", 0)
    assert not task.steps.exists()


def test_an_empty_balance_stops_a_call_before_it_is_made(task: Task) -> None:
    ledger.adjust(
        user_id=task.owner_id, microcredits=-9_900_000, reference="out", description="spent"
    )
    effect = Calls(reply())
    with pytest.raises(OutOfBudget) as caught:
        ask(journal_of(task), effect)
    assert (caught.value.limit, effect.times) == ("balance", 0)
    assert ledger.balance(task.owner_id).balance == 100_000


def test_the_worst_case_is_bounded_by_what_was_appended_since(task: Task) -> None:
    journal = journal_of(task)
    ask(journal, Calls(reply()), request_bytes=40_000)
    Task.objects.update(cap_microcredits=COST + 160_000)
    journal.purse.money = Money(task.model, COST + 160_000)
    # 1,000 reported tokens and 100 new bytes and 500 of output: 1,600 tokens, not 40,100.
    ask(journal, Calls(reply()), request_bytes=40_100, digest="e")


def test_what_a_provider_reports_beyond_the_reservation_is_not_the_users(task: Task) -> None:
    boasting = Reply("hi", (), "end", Usage(input=10**9, output=10**9), "{}")
    ask(journal_of(task), Calls(boasting))
    task.refresh_from_db()
    balance = ledger.balance(task.owner_id)
    reserved = 2_500 * 100
    assert task.charged_microcredits == reserved <= task.cap_microcredits
    assert (balance.spent, balance.held) == (reserved, 0)
    assert task.steps.get().cost_microcredits == reserved
    assert task.input_tokens == 10**9


def test_with_an_own_key_nothing_is_charged(task: Task) -> None:
    ask(journal_of(task, is_own_key=True), Calls(reply()))
    task.refresh_from_db()
    assert (task.charged_microcredits, task.input_tokens) == (0, 1_000)


def test_a_tool_that_is_done_is_not_run_again(task: Task) -> None:
    effect = Calls(ToolResult("out", exit_code=3, summary="Ran it", full=b"all of it"))
    first = run_tool(journal_of(task), effect)
    again = run_tool(journal_of(task), effect)
    assert effect.times == 1
    assert (again.text, again.exit_code, again.summary) == ("out", 3, "Ran it")
    assert first.full == b"all of it"
    assert bytes(Artifact.objects.get().body) == b"all of it"


def test_a_changing_step_settles_with_its_checkpoint(task: Task) -> None:
    journal = journal_of(task)
    journal.head = "a" * 40
    asked: list[str] = []

    def checkpoint(previous: str) -> Checkpoint:
        asked.append(previous)
        return Checkpoint("b" * 40, "c" * 40)

    journal.checkpoint = checkpoint
    run_tool(journal, Calls(ToolResult("x")), changes=True)
    task.refresh_from_db()
    assert (asked, task.head_commit) == (["a" * 40], "b" * 40)
    resumed = journal_of(task)
    run_tool(resumed, Calls(ToolResult("never")), changes=True)
    assert resumed.head == "b" * 40


def test_a_note_is_decided_once(task: Task) -> None:
    first = journal_of(task).note(name="clock", effect=lambda: "12")
    assert first == journal_of(task).note(name="clock", effect=lambda: "13")


def test_a_run_that_parts_from_its_journal_goes_on_afresh_and_pays_once(task: Task) -> None:
    first = journal_of(task)
    ask(first, Calls(reply()))
    run_tool(first, Calls(ToolResult("x")))
    resumed = journal_of(task)
    resets: list[str] = []
    resumed.on_reset = resets.append
    effect = Calls(reply("another"))
    assert ask(resumed, effect, digest="another version").text == "another"
    run_tool(resumed, Calls(ToolResult("again")))
    assert (effect.times, resets) == (1, [""])
    states = list(task.steps.order_by("ordinal", "attempt").values_list("state", flat=True))
    assert states == ["lost", "done", "lost", "done"]
    task.refresh_from_db()
    assert task.charged_microcredits == COST
    assert LedgerEntry.objects.filter(kind="charge").count() == 1


@pytest.mark.parametrize("allowed", [1, 3])
def test_what_no_checkpoint_takes_is_taken_back_and_told(
    task: Task, settings: Any, allowed: int
) -> None:
    settings.CHECKPOINT_REFUSALS = allowed
    journal = journal_of(task)
    resets: list[str] = []
    journal.on_reset = resets.append

    def refuse(previous: str) -> None:
        raise CheckpointRefused("A file name holds control characters.")

    journal.checkpoint = refuse
    for number in range(allowed - 1):
        result = journal.tool_call(
            name="bash", arguments=str(number), changes=True, effect=lambda: ToolResult("done")
        )
        assert result.is_error
        assert "control characters" in result.text
    assert len(resets) == allowed - 1
    with pytest.raises(CheckpointRefused):
        run_tool(journal, Calls(ToolResult("x")), changes=True)


def test_a_stale_run_writes_nothing(task: Task) -> None:
    stale = journal_of(task)
    expire(task)
    lease.take_back_expired()
    lease.claim(worker="two")
    effect = Calls(ToolResult("late"))
    for attempt in (
        lambda: run_tool(stale, effect),
        lambda: ask(stale, effect),
        lambda: stale.note(name="n", effect=lambda: "late"),
        lambda: stale.external(name="push", effect=lambda: "late"),
    ):
        with pytest.raises(LeaseLost):
            attempt()
    assert effect.times == 0
    assert not task.steps.exists()


def test_a_run_that_must_stop_settles_its_step_and_begins_no_other(task: Task) -> None:
    journal = journal_of(task)
    asked: list[bool] = []
    journal.is_stopping = lambda: bool(asked)

    def work() -> ToolResult:
        asked.append(True)
        return ToolResult("done")

    journal.tool_call(name="bash", arguments="{}", changes=False, effect=work)
    effect = Calls(ToolResult("too late"))
    for attempt in (
        lambda: run_tool(journal, effect),
        lambda: ask(journal, effect),
        lambda: journal.note(name="n", effect=lambda: "too late"),
        lambda: journal.external(name="push", effect=lambda: "too late"),
    ):
        with pytest.raises(RunStopped):
            attempt()
    assert effect.times == 0
    assert list(task.steps.values_list("state", flat=True)) == ["done"]


def test_a_run_that_goes_stale_inside_a_call_is_not_charged(task: Task) -> None:
    journal = journal_of(task)

    def slow() -> Reply:
        expire(task)
        lease.take_back_expired()
        lease.claim(worker="two")
        return reply()

    with pytest.raises(LeaseLost):
        journal.model_call(digest="d", request_bytes=10, max_output_tokens=10, effect=slow)
    task.refresh_from_db()
    assert task.charged_microcredits == 0
    ask(journal_of(task), Calls(reply()))
    task.refresh_from_db()
    assert task.charged_microcredits == COST
