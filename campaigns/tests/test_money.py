"""Credits under fire at the small size, and every check shown to be able to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import F
from hypothesis import Phase

from accounts.models import User
from billing import ledger
from billing.models import CreditAccount, CreditHold
from campaigns import money, oracle, races
from campaigns.races import CANCELLED, CREDIT
from campaigns.tests.commands import play
from tasks import events, lease
from tasks.events import Event
from tasks.models import Status, Task
from tasks.tests.make import make_task

PRICED = pytest.mark.django_db(transaction=True)


@pytest.mark.services
@pytest.mark.timeout(600)
def test_the_small_size_has_no_losses() -> None:
    told = play("money", count=40)
    assert "| 50 creates over HTTP on credits for 10 | 50 | 10 times 201, 40 times 402" in told
    assert "| 50 creates by the verb on credits for 10 | 50 | 10 times 201, 40 times 402" in told
    assert "200 threads with 2 ledger operations each" in told or "PostgreSQL" in told


# --- what each check says of a world in which something went wrong --------------------------------


@pytest.fixture
def payer(alice: User) -> User:
    ledger.grant(user_id=alice.pk, microcredits=10 * CREDIT, reference="gift")
    return alice


def test_books_that_do_not_balance_are_found(payer: User) -> None:
    assert races.books_faults(payer) == []
    CreditAccount.objects.update(balance_microcredits=F("balance_microcredits") + 1)
    assert "do not balance" in races.books_faults(payer)[0]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (["gift"], []),
        (["gift", "gift"], ["gift was done 2 times"]),
        (["never"], ["never was answered and is not there"]),
        (["OutOfCredit: too few"], []),
        (["OperationalError: locked"], ["a user saw OperationalError: locked"]),
    ],
)
def test_an_answer_that_the_ledger_denies_is_found(
    payer: User, told: list[str], said: list[str]
) -> None:
    assert races.ledger_faults([payer], told) == said


def test_an_eleventh_task_on_credits_for_ten_is_found(payer: User) -> None:
    ledger.adjust(user_id=payer.pk, microcredits=-10 * CREDIT, reference="out", description="")
    told = ["201"] * 10 + [money.REFUSED] * 40
    for _ in range(10):
        make_task(owner=payer)
    assert money.spending_faults(payer, told, accepted="201") == []
    make_task(owner=payer)
    told[20] = "201"
    faults = money.spending_faults(payer, told, accepted="201")
    assert "11 times 201" in faults[0]
    assert "11 tasks" in faults[1]


def _ended_twice(task: Task) -> None:
    events.append(task.pk, Event("task.completed"))


def _still_running(task: Task) -> None:
    Task.objects.update(status=Status.RUNNING)


def _place_taken(task: Task) -> None:
    User.objects.update(running_tasks=1)


def _hold_open(task: Task) -> None:
    CreditHold.objects.update(is_open=True)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_ended_twice, "ended 2 times"),
        (_still_running, "is running"),
        (_place_taken, "1 places taken"),
        (_hold_open, "is open"),
    ],
)
def test_an_end_that_is_none_is_found(payer: User, harm: Callable[[Task], None], said: str) -> None:
    task = make_task(owner=payer, held=CREDIT)
    lease.finish_unheld(task.pk, CANCELLED)
    assert races.ending_faults(payer) == []
    harm(task)
    assert said in races.ending_faults(payer)[0]


def test_a_claim_that_two_have_won_is_found() -> None:
    assert races.claim_faults([(0, 1, 0), (1, 0, 0)]) == []
    assert races.claim_faults([(0, 1, 1), (0, 0, 0)]) == [
        "claim 0 was won by 2",
        "claim 1 was won by 0",
    ]


@PRICED
def test_a_stale_worker_that_changes_something_is_found(
    payer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfenced(claimed: lease.Claim) -> None:
        events.append(claimed.task_id, Event("log.written", "late"))

    for harm, found in [([], 0), ([unfenced], 1)]:
        task = make_task(owner=payer)
        assert lease.claim(worker="worker 0", only=task.pk)
        monkeypatch.setattr(races, "STALE_WRITES", [*races.STALE_WRITES, *harm])
        assert len(races.stale_faults(task)) == found


@pytest.fixture
def _quick_oracle(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-stage"
    monkeypatch.setattr(oracle, "PHASES", [Phase.generate])


@PRICED
@pytest.mark.usefixtures("_quick_oracle")
def test_the_oracle_sees_a_place_that_is_never_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_free_place", lambda user_id: None)
    with pytest.raises(AssertionError):
        oracle.play(400, 1)


@PRICED
@pytest.mark.usefixtures("_quick_oracle")
def test_the_oracle_sees_a_microcredit_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    release = ledger.release

    def generous(*, hold_reference: str) -> int:
        hold = CreditHold.objects.select_related("account").get(reference=hold_reference)
        ledger.grant(
            user_id=hold.account.user_id, microcredits=1, reference=f"{hold_reference}:bonus"
        )
        return release(hold_reference=hold_reference)

    monkeypatch.setattr(ledger, "release", generous)
    with pytest.raises(AssertionError):
        oracle.play(400, 1)
