"""Many at once: the books balance on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from asynccoder.lib.errors import OutOfCredit
from billing import ledger
from billing.errors import CapExceeded, HoldClosed
from billing.models import CreditHold, LedgerEntry
from billing.tests.make import CREDIT, assert_books_balance, give

pytestmark = [pytest.mark.services]


def at_once(times: int, verb: Callable[[int], Any], *, threads: int = 50) -> list[Any]:
    """Call ``verb(0..times-1)`` on threads that start together; return what each gave or raised."""
    threads = min(times, threads)
    barrier = Barrier(threads)

    def call(number: int) -> Any:
        try:
            if number < threads:
                barrier.wait()
            return verb(number)
        except OutOfCredit as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(times)))


@pytest.mark.django_db(transaction=True)
def test_fifty_spenders_share_twenty_credits(alice: User) -> None:
    give(alice, 20)

    def spend(number: int) -> bool:
        return ledger.adjust(
            user_id=alice.pk, microcredits=-CREDIT, reference=f"spend:{number}", description=""
        )

    results = at_once(50, spend)
    assert results.count(True) == 20
    assert sum(isinstance(result, OutOfCredit) for result in results) == 30
    assert ledger.balance(alice.pk).balance == 0
    assert_books_balance(alice)


@pytest.mark.django_db(transaction=True)
def test_fifty_holds_on_ten_credits(alice: User) -> None:
    give(alice, 10)

    def hold(number: int) -> CreditHold:
        return ledger.hold(
            user_id=alice.pk, microcredits=CREDIT, reference=f"task:{number}", description=""
        )

    results = at_once(50, hold)
    assert sum(isinstance(result, CreditHold) for result in results) == 10
    assert CreditHold.objects.count() == 10
    assert_books_balance(alice)


@pytest.mark.django_db(transaction=True)
def test_one_message_delivered_fifty_times_charges_once(alice: User) -> None:
    give(alice, 100)
    ledger.hold(user_id=alice.pk, microcredits=50 * CREDIT, reference="task:1", description="")

    def charge(_: int) -> int:
        return ledger.charge(
            hold_reference="task:1", microcredits=CREDIT, reference="task:1:call:1", description=""
        )

    assert sorted(at_once(50, charge)) == [0] * 49 + [CREDIT]
    assert ledger.balance(alice.pk).spent == CREDIT
    assert_books_balance(alice)


@pytest.mark.django_db(transaction=True)
def test_first_uses_of_an_account_make_one(alice: User) -> None:
    def grant(_: int) -> bool:
        return ledger.grant(user_id=alice.pk, microcredits=CREDIT, reference="signup")

    assert at_once(20, grant).count(True) == 1
    assert_books_balance(alice)


@pytest.mark.django_db(transaction=True)
def test_twenty_releases_give_back_once(alice: User) -> None:
    give(alice, 10)
    ledger.hold(user_id=alice.pk, microcredits=10 * CREDIT, reference="task:1", description="")
    released = at_once(20, lambda _: ledger.release(hold_reference="task:1"))
    assert sorted(released)[-2:] == [0, 10 * CREDIT]
    assert ledger.balance(alice.pk).balance == 10 * CREDIT
    assert_books_balance(alice)


@pytest.mark.django_db(transaction=True)
def test_reserving_charging_and_releasing_at_once_keeps_the_books(alice: User) -> None:
    give(alice, 30)
    for task in range(4):
        ledger.hold(user_id=alice.pk, microcredits=CREDIT, reference=f"task:{task}", description="")

    def work(number: int) -> None:
        reference, turn = f"task:{number % 4}", number // 4
        ledger.reserve(
            hold_reference=reference,
            microcredits=2 * CREDIT,
            cap_microcredits=100 * CREDIT,
            charged_microcredits=0,
        )
        ledger.charge(
            hold_reference=reference,
            microcredits=CREDIT + turn,
            reference=f"{reference}:call:{turn}",
            description="",
        )

    at_once(40, work, threads=16)
    assert_books_balance(alice)
    at_once(8, lambda number: ledger.release(hold_reference=f"task:{number % 4}"))
    assert ledger.balance(alice.pk).held == 0
    assert_books_balance(alice)


@pytest.mark.django_db(transaction=True)
def test_a_run_that_ends_and_one_that_pays_do_not_block_each_other(alice: User) -> None:
    """Ending a run takes the user's row first and the ledger second; paying must do the same."""
    give(alice, 100)
    ledger.hold(user_id=alice.pk, microcredits=19 * CREDIT, reference="task:0", description="")
    for task in range(1, 20):
        ledger.hold(user_id=alice.pk, microcredits=CREDIT, reference=f"task:{task}", description="")

    def work(number: int) -> None:
        if number % 2:
            ledger.charge(
                hold_reference="task:0",
                microcredits=CREDIT,
                reference=f"task:0:call:{number}",
                description="",
            )
            return
        with transaction.atomic():
            User.objects.filter(pk=alice.pk).update(running_tasks=F("running_tasks") + 1)
            ledger.release(hold_reference=f"task:{1 + number // 2}")

    at_once(38, work)
    assert ledger.balance(alice.pk).spent == 19 * CREDIT
    assert_books_balance(alice)


AMOUNTS = st.integers(0, 40)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "hold", "reserve", "charge", "release", "adjust", "refund"]),
        st.integers(0, 2),
        AMOUNTS,
        st.integers(0, 3),
    ),
    max_size=30,
)


@pytest.mark.django_db
@given(steps=STEPS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_order_of_verbs_breaks_the_books(alice: User, steps: list[tuple[Any, ...]]) -> None:
    run = uuid4().hex
    for verb, task, amount, turn in steps:
        _do(alice, f"{run}:task:{task}", verb, amount, turn)
        assert ledger.balance(alice.pk).balance >= 0
    if LedgerEntry.objects.exists():
        assert_books_balance(alice)


def _do(user: User, reference: str, verb: str, amount: int, turn: int) -> None:
    money: dict[str, Any] = {
        "user_id": user.pk,
        "reference": f"{reference}:{verb}:{turn}",
        "description": "",
    }
    try:
        match verb:
            case "grant" | "refund":
                getattr(ledger, verb)(microcredits=amount, **money)
            case "adjust":
                ledger.adjust(microcredits=amount - 20, **money)
            case "hold":
                ledger.hold(**(money | {"reference": reference}), microcredits=amount)
            case "reserve":
                ledger.reserve(
                    hold_reference=reference,
                    microcredits=amount,
                    cap_microcredits=30,
                    charged_microcredits=turn,
                )
            case "charge":
                ledger.charge(
                    hold_reference=reference,
                    microcredits=amount,
                    reference=money["reference"],
                    description="",
                )
            case "release":
                ledger.release(hold_reference=reference)
    except (OutOfCredit, CapExceeded, HoldClosed, CreditHold.DoesNotExist):
        pass
