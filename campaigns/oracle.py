"""A task and its money against a plain-Python oracle, in every order that Hypothesis finds."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.utils import timezone
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.models import User
from aimodels.models import AIModel
from aimodels.providers.base import MalformedReply, ProviderBusy, Reply, Usage
from asynccoder.lib.errors import OutOfCredit
from billing import ledger
from billing.tests.make import assert_books_balance
from campaigns.races import CANCELLED, DONE, end_rest, expire, make_user
from tasks import lease, lifecycle
from tasks.agent.errors import OutOfBudget
from tasks.errors import LeaseLost, TaskFinished
from tasks.journal import RunJournal
from tasks.lease import Claim, Ending
from tasks.lifecycle import TaskRequest
from tasks.models import TERMINAL, Status, Task, TaskType
from tasks.records import Money
from tasks.tests.make import make_model

PRICE = Decimal("0.000001")
GIFT = 9_000_000
STEPS = 50
PHASES = (Phase.generate, Phase.shrink)
MOST_LOST = 3
REQUEST_BYTES, OUTPUT_TOKENS = 2_000, 500
CAPS = st.sampled_from([200_000, 600_000, 1_500_000, 3_000_000, 6_000_000])
NUMBERS = st.integers(0, 99)


class Killed(BaseException):
    """The worker dies in the middle of a call."""


@dataclass
class Expected:
    """What the oracle knows of one task. ``held`` is None once the hold is closed."""

    task: Task
    held: int | None
    cap: int
    status: str = Status.PENDING
    generation: int = 0
    is_leased: bool = False
    is_parked: bool = False
    is_cancel_asked: bool = False
    charged: int = 0
    lost: int = 0
    answered: list[int] = field(default_factory=list)
    """What each answered call has cost."""
    journal: RunJournal | None = None
    replayed: int = 0
    last_input: int = 0

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_due(self) -> bool:
        return not (self.is_over or self.is_leased or self.is_parked)

    @property
    def has_lost_lease(self) -> bool:
        return self.generation > 0 and not self.is_leased

    @property
    def claimed(self) -> Claim:
        return Claim(self.task.pk, self.generation)


def some(trait: str) -> Callable[[Any], Any]:
    """Let Hypothesis choose a rule only where there is a task for it."""
    return precondition(lambda machine: any(getattr(each, trait) for each in machine.tasks))


def open_tasks(*, least: int, most: int) -> Callable[[Any], Any]:
    """Let it choose a rule only with so many open tasks, or most would never be worked on."""
    return precondition(
        lambda machine: least <= sum(not each.is_over for each in machine.tasks) <= most
    )


class Machine(RuleBasedStateMachine):
    """One user with nine credits and place for two runs; every rule is one verb of the platform."""

    def __init__(self) -> None:
        super().__init__()
        for task in Task.objects.open():
            # What is due is claimed by anybody; an example that broke leaves something behind.
            end_rest(task)
        self.user: User = make_user(f"user-{uuid.uuid4().hex[:12]}")
        User.objects.filter(pk=self.user.pk).update(concurrent_tasks=2)
        ledger.grant(user_id=self.user.pk, microcredits=GIFT, reference=f"first:{self.user.pk}")
        self.model: AIModel = make_model(
            provider="openai", name="oracle", display_name="Oracle", input_price=PRICE,
            output_price=PRICE, cached_input_price=PRICE, context_window=100_000,
        )  # fmt: skip
        self.balance = GIFT
        self.tasks: list[Expected] = []

    def pick(self, number: int, trait: str) -> Expected:
        found = [each for each in self.tasks if getattr(each, trait)]
        return found[number % len(found)]

    # --- the rules -----------------------------------------------------------------------------

    @open_tasks(least=0, most=3)
    @rule(cap=CAPS)
    def create(self, cap: int) -> None:
        request = TaskRequest(
            type=TaskType.BUILD, prompt="Make it", model=self.model, cap_microcredits=cap
        )
        hold = min(cap, lifecycle.estimate(self.user, self.model, request))
        try:
            task, _ = lifecycle.create_task(owner=self.user, request=request, ring=False)
        except OutOfCredit:
            assert self.balance < hold
            return
        self.balance -= hold
        assert self.balance >= 0
        self.tasks.append(Expected(task, hold, cap))

    @some("is_due")
    @rule()
    def claim(self) -> None:
        due = [each for each in self.tasks if each.is_due]
        expected = due[0] if due and self.places() < 2 else None
        claimed = lease.claim(worker="worker")
        assert claimed == (expected and Claim(expected.task.pk, expected.generation + 1))
        if expected is not None:
            expected.generation += 1
            expected.status, expected.is_leased, expected.journal = Status.RUNNING, True, None

    @some("is_leased")
    @rule(number=NUMBERS, calls=st.lists(st.integers(0, 4_000), min_size=1, max_size=6))
    def call(self, number: int, calls: list[int]) -> None:
        each = self.pick(number, "is_leased")
        for tokens in calls:
            usage = Usage(input=tokens, output=tokens // 3)
            is_cut = tokens % 4 == 3
            result = MalformedReply("cut", usage=usage) if is_cut else _answer(usage)
            self.ask(each, result, usage)

    @some("is_leased")
    @rule(number=NUMBERS, how=st.sampled_from(["busy", "killed", "taken over", "cancelled"]))
    def call_in_vain(self, number: int, how: str) -> None:
        """Make a call whose answer is never settled: nothing is charged."""
        self.ask(self.pick(number, "is_leased"), how, None)

    @some("is_leased")
    @rule(number=NUMBERS, seconds=st.integers(60, 3600))
    def park(self, number: int, seconds: int) -> None:
        each = self.pick(number, "is_leased")
        lease.park(each.claimed, seconds=seconds, reason="busy")
        each.is_leased, each.is_parked = False, True
        self.let_go(each)

    @some("is_parked")
    @rule(number=NUMBERS)
    def wake(self, number: int) -> None:
        each = self.pick(number, "is_parked")
        Task.objects.filter(pk=each.task.pk).update(run_after=timezone.now())
        each.is_parked = False

    @some("is_leased")
    @rule(number=NUMBERS, how=st.sampled_from(["stops", "dies", "is silent"]))
    def lose_worker(self, number: int, how: str) -> None:
        each = self.pick(number, "is_leased")
        if how == "is silent":
            expire(each.task)
            assert lease.take_back_expired() == 1
        else:
            assert lease.give_back(each.claimed, is_lost=how == "dies")
        self.lose(each, by=0 if how == "stops" else 1)

    @open_tasks(least=2, most=9)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        each = self.tasks[number % len(self.tasks)]
        try:
            lifecycle.cancel_task(each.task, by=self.user)
        except TaskFinished:
            assert each.is_over
            return
        assert not each.is_over
        if each.is_leased:
            each.is_cancel_asked = True
        else:
            self.end(each, Status.CANCELLED)

    @some("is_leased")
    @rule(number=NUMBERS, ending=st.sampled_from([DONE, CANCELLED, Ending(Status.FAILED)]))
    def finish(self, number: int, ending: Ending) -> None:
        each = self.pick(number, "is_leased")
        assert lease.finish(each.claimed, ending)
        self.end(each, ending.status)

    @some("has_lost_lease")
    @rule(number=NUMBERS)
    def write_late(self, number: int) -> None:
        """Write all that a worker can which has lost its lease: nothing may change."""
        each = self.pick(number, "has_lost_lease")
        assert not lease.finish(each.claimed, DONE)
        assert not lease.give_back(each.claimed, is_lost=True)
        self.stale(lambda: lease.park(each.claimed, seconds=60, reason="late"))
        if each.journal is not None:
            journal = each.journal
            self.stale(lambda: journal.note(name="late", effect=lambda: "late"))
            each.journal = None

    def stale(self, write: Callable[[], object]) -> None:
        with suppress(LeaseLost):
            write()
            raise AssertionError("a stale worker has written")

    # --- what the oracle knows -----------------------------------------------------------------

    def places(self) -> int:
        return sum(1 for each in self.tasks if each.is_leased)

    def replay(self, each: Expected) -> RunJournal:
        """Begin where the run began and go through what is answered; no call may be made again."""
        if each.journal is None:
            task = Task.objects.select_related("model", "owner").get(pk=each.task.pk)
            each.journal = RunJournal(task, Money(self.model, each.cap))
            each.replayed = each.last_input = 0
        while each.replayed < len(each.answered):
            with suppress(MalformedReply):
                reply = each.journal.model_call(effect=_never, **self.request(each))
                each.last_input = reply.usage.input
            each.replayed += 1
        return each.journal

    def request(self, each: Expected) -> dict[str, Any]:
        return {
            "digest": f"call {each.replayed}",
            "request_bytes": REQUEST_BYTES,
            "max_output_tokens": OUTPUT_TOKENS,
        }

    def ask(self, each: Expected, result: object, usage: Usage | None) -> None:
        """Make the next call and settle what came of it, here and in the oracle."""
        journal = self.replay(each)
        assert each.held is not None
        bound = each.last_input or REQUEST_BYTES
        worst = int(self.model.worst_case_microcredits(min(bound, 100_000), OUTPUT_TOKENS))
        missing = max(worst - each.held, 0)
        try:
            journal.model_call(effect=lambda: self.play(each, result), **self.request(each))
        except OutOfBudget as error:
            self.refused(each, worst, error.limit)
            # Nothing was begun: the run ends here in the product.
            each.journal = None
            return
        except (Killed, LeaseLost, ProviderBusy, MalformedReply):
            pass
        self.settle(each, usage, missing, is_read=isinstance(result, Reply))

    def refused(self, each: Expected, worst: int, limit: str) -> None:
        is_capped = each.charged + worst > each.cap
        assert limit == ("money" if is_capped else "balance")
        assert is_capped or worst - (each.held or 0) > self.balance

    def settle(self, each: Expected, usage: Usage | None, missing: int, *, is_read: bool) -> None:
        if each.held is not None:
            each.held += missing
            self.balance -= missing
        else:
            # It ended while the model thought: what was set aside came back with the rest.
            missing = 0
        if usage is None:
            each.journal = None
            return
        assert each.held is not None
        charged = min(int(self.model.cost_microcredits(usage)), each.held)
        each.held -= charged
        each.charged += charged
        each.answered.append(charged)
        each.replayed += 1
        if is_read:
            each.last_input = usage.input

    def play(self, each: Expected, result: object) -> Reply:
        """Be the provider: answer, fail, or let something happen meanwhile."""
        match result:
            case Reply():
                return result
            case MalformedReply():
                raise result
            case "busy":
                raise ProviderBusy("busy")
            case "taken over":
                expire(each.task)
                assert lease.take_back_expired() == 1
                self.lose(each)
            case "cancelled":
                assert lease.finish(each.claimed, CANCELLED)
                self.end(each, Status.CANCELLED)
            case _:
                raise Killed
        return _answer(Usage(input=1_000, output=100))

    def lose(self, each: Expected, *, by: int = 1) -> None:
        each.lost += by
        each.is_leased = False
        if each.lost >= MOST_LOST:
            self.end(each, Status.FAILED)
        else:
            self.let_go(each)

    def let_go(self, each: Expected) -> None:
        if each.is_cancel_asked:
            self.end(each, Status.CANCELLED)

    def end(self, each: Expected, status: str) -> None:
        self.balance += each.held or 0
        each.status, each.held = status, None
        each.is_leased = each.is_parked = False

    # --- what must hold ------------------------------------------------------------------------

    @invariant()
    def the_books_are_the_oracles(self) -> None:
        now = ledger.balance(self.user.pk)
        held = sum(each.held or 0 for each in self.tasks)
        spent = sum(each.charged for each in self.tasks)
        assert (now.balance, now.held, now.spent) == (self.balance, held, spent)

    @invariant()
    def the_tasks_are_the_oracles(self) -> None:
        found = {
            row.pk: (row.status, row.generation, row.charged_microcredits, row.lost_attempts,
                     bool(row.lease_owner), bool(row.run_after and row.run_after > timezone.now()))
            for row in Task.objects.filter(owner=self.user)
        }  # fmt: skip
        assert found == {
            each.task.pk: (each.status, each.generation, each.charged, each.lost,
                           each.is_leased, each.is_parked)
            for each in self.tasks
        }  # fmt: skip
        self.user.refresh_from_db()
        assert self.user.running_tasks == self.places()

    def teardown(self) -> None:
        """End everything; at last the whole ledger adds up and each task has ended once."""
        for each in self.tasks:
            if each.is_leased:
                assert lease.finish(each.claimed, DONE)
            elif not each.is_over:
                lease.finish_unheld(each.task.pk, CANCELLED)
            ends = each.task.log.filter(kind__in=[f"task.{status}" for status in TERMINAL])
            assert ends.count() == 1
        assert ledger.balance(self.user.pk).held == 0
        assert_books_balance(self.user)


def _answer(usage: Usage) -> Reply:
    return Reply("hi", (), "end", usage, "{}")


def _never() -> Reply:
    raise AssertionError("an answered call was made again")


def play(steps: int, number: int) -> None:
    """Run so many rules, in an order that the number decides. Raises what broke the oracle."""
    run_state_machine_as_test(
        seed(number)(Machine),
        settings=settings(
            max_examples=-(-steps // STEPS),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
