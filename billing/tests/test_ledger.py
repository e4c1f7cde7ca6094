"""The ledger's verbs, one at a time."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import FeedEvent, User
from asynccoder.lib.errors import OutOfCredit
from billing import ledger
from billing.errors import CapExceeded, HoldClosed, LedgerIsFinal
from billing.models import CreditAccount, LedgerEntry
from billing.tests.make import CREDIT, assert_books_balance, give


def hold(user: User, credits: int, reference: str = "task:1") -> None:
    ledger.hold(
        user_id=user.pk, microcredits=credits * CREDIT, reference=reference, description="Task"
    )


def charge(credits: int, reference: str = "task:1:call:1", of: str = "task:1") -> int:
    return ledger.charge(
        hold_reference=of, microcredits=credits * CREDIT, reference=reference, description="Call"
    )


def in_credits(user: User) -> tuple[float, float, float]:
    now = ledger.balance(user.pk)
    return now.balance / CREDIT, now.held / CREDIT, now.spent / CREDIT


def test_a_new_user_has_an_empty_account(alice: User) -> None:
    assert in_credits(alice) == (0, 0, 0)


def test_a_grant_counts_once(alice: User) -> None:
    assert ledger.grant(user_id=alice.pk, microcredits=CREDIT, reference="gift")
    assert not ledger.grant(user_id=alice.pk, microcredits=CREDIT, reference="gift")
    assert in_credits(alice) == (1, 0, 0)
    assert_books_balance(alice)


def test_a_reference_belongs_to_one_user(alice: User, mallory: User) -> None:
    assert ledger.grant(user_id=alice.pk, microcredits=CREDIT, reference="gift")
    assert not ledger.grant(user_id=mallory.pk, microcredits=CREDIT, reference="gift")
    assert in_credits(mallory) == (0, 0, 0)


def test_hold_charge_and_release_settle_a_task(alice: User) -> None:
    give(alice, 100)
    hold(alice, 25)
    assert in_credits(alice) == (75, 25, 0)
    assert charge(10)
    assert charge(13, "task:1:call:2")
    assert in_credits(alice) == (75, 2, 23)
    assert ledger.release(hold_reference="task:1") == 2 * CREDIT
    assert in_credits(alice) == (77, 0, 23)
    assert_books_balance(alice)


def test_a_repeated_message_charges_once(alice: User) -> None:
    give(alice, 100)
    hold(alice, 25)
    assert charge(10)
    assert not charge(10)
    assert in_credits(alice) == (75, 15, 10)


def test_a_repeated_hold_is_the_same_hold(alice: User) -> None:
    give(alice, 100)
    hold(alice, 25)
    hold(alice, 25)
    assert in_credits(alice) == (75, 25, 0)


def test_a_hold_beyond_the_balance_is_refused_and_leaves_nothing(alice: User) -> None:
    give(alice, 10)
    with pytest.raises(OutOfCredit) as caught:
        hold(alice, 11)
    assert caught.value.details == {"needed": 11, "balance": 10}
    assert in_credits(alice) == (10, 0, 0)
    assert not CreditAccount.objects.get(user=alice).holds.exists()


def test_a_hold_of_nothing_writes_no_entry(alice: User) -> None:
    hold(alice, 0)
    assert not LedgerEntry.objects.exists()
    assert charge(0) == 0
    assert ledger.release(hold_reference="task:1") == 0
    assert CreditAccount.objects.get(user=alice).holds.filter(is_open=False).count() == 1


def test_a_release_gives_back_once(alice: User) -> None:
    give(alice, 10)
    hold(alice, 10)
    assert ledger.release(hold_reference="task:1") == 10 * CREDIT
    assert ledger.release(hold_reference="task:1") == 0
    assert in_credits(alice) == (10, 0, 0)


def test_nothing_is_charged_to_or_reserved_in_a_released_hold(alice: User) -> None:
    give(alice, 10)
    hold(alice, 5)
    assert charge(1)
    ledger.release(hold_reference="task:1")
    with pytest.raises(HoldClosed):
        charge(1, "task:1:call:2")
    with pytest.raises(HoldClosed):
        ledger.reserve(
            hold_reference="task:1", microcredits=1, cap_microcredits=9, charged_microcredits=0
        )
    assert not charge(1), "a repeated charge is no error after the release either"
    assert in_credits(alice) == (9, 0, 1)


def reserve(credits: int, *, cap: int = 200, charged: int = 0) -> None:
    ledger.reserve(
        hold_reference="task:1",
        microcredits=credits * CREDIT,
        cap_microcredits=cap * CREDIT,
        charged_microcredits=charged * CREDIT,
    )


def test_reserve_tops_the_hold_up_only_by_what_is_missing(alice: User) -> None:
    give(alice, 100)
    hold(alice, 5)
    reserve(5)
    assert in_credits(alice) == (95, 5, 0)
    reserve(8)
    reserve(8)
    assert in_credits(alice) == (92, 8, 0)
    assert_books_balance(alice)


def test_reserve_up_to_the_cap_and_not_one_more(alice: User) -> None:
    give(alice, 100)
    hold(alice, 0)
    reserve(6, cap=10, charged=4)
    with pytest.raises(CapExceeded):
        reserve(7, cap=10, charged=4)
    assert in_credits(alice) == (94, 6, 0)


def test_reserve_beyond_the_balance_changes_nothing(alice: User) -> None:
    give(alice, 10)
    hold(alice, 4)
    with pytest.raises(OutOfCredit):
        reserve(11)
    assert in_credits(alice) == (6, 4, 0)
    assert_books_balance(alice)


def test_a_charge_never_goes_beyond_the_hold_and_the_rest_is_said(
    alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    give(alice, 10)
    hold(alice, 4)
    with caplog.at_level(logging.ERROR, logger="billing.ledger"):
        assert charge(7) == 4 * CREDIT
        assert charge(1, "task:1:call:2") == 0
    assert in_credits(alice) == (6, 0, 4)
    assert "3000000 microcredits could not be charged" in caplog.text
    charges = LedgerEntry.objects.filter(kind="charge").order_by("sequence")
    assert [entry.held_change for entry in charges] == [-4 * CREDIT, 0]
    assert all("not covered" in entry.description for entry in charges)
    assert_books_balance(alice)


def test_an_adjustment_never_goes_below_zero(alice: User) -> None:
    give(alice, 10)
    adjust = partial(ledger.adjust, user_id=alice.pk, description="Correction")
    assert adjust(microcredits=-10 * CREDIT, reference="a")
    assert not adjust(microcredits=-10 * CREDIT, reference="a")
    with pytest.raises(OutOfCredit):
        adjust(microcredits=-1, reference="b")
    assert in_credits(alice) == (0, 0, 0)


def test_a_refund_gives_back_and_lowers_what_was_spent(alice: User) -> None:
    give(alice, 10)
    hold(alice, 5)
    charge(5)
    for _ in range(2):
        ledger.refund(
            user_id=alice.pk, microcredits=3 * CREDIT, reference="refund:1", description="Fault"
        )
    assert in_credits(alice) == (8, 0, 2)
    assert_books_balance(alice)


@pytest.mark.parametrize("verb", [ledger.grant, ledger.refund, ledger.hold])
def test_a_negative_amount_is_our_bug(alice: User, verb: Any) -> None:
    with pytest.raises(ValueError, match="never negative"):
        verb(user_id=alice.pk, microcredits=-1, reference="x", description="")


def test_a_change_of_the_balance_reaches_the_feed(alice: User) -> None:
    give(alice, 100)
    hold(alice, 25)
    charge(20)
    ledger.release(hold_reference="task:1")
    events = FeedEvent.objects.filter(user=alice, event="credits:updated").order_by("sequence")
    assert [(e.data["credits"], e.data["change"]) for e in events] == [
        (100, 100),
        (75, -25),
        (80, 5),
    ]
    assert {e.data["userId"] for e in events} == {str(alice.pk)}


def test_a_verb_undone_by_its_caller_leaves_no_trace(alice: User) -> None:
    give(alice, 100)
    with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012  # both belong inside
        hold(alice, 25)
        raise RuntimeError
    assert in_credits(alice) == (100, 0, 0)
    assert FeedEvent.objects.filter(user=alice).count() == 1


def test_entries_are_final(alice: User) -> None:
    give(alice, 1)
    entry = LedgerEntry.objects.get()
    entry.balance_change = 5
    with pytest.raises(LedgerIsFinal):
        entry.save()
    with pytest.raises(LedgerIsFinal):
        entry.delete()
    with pytest.raises(LedgerIsFinal):
        LedgerEntry.objects.update(balance_change=5)
    with pytest.raises(LedgerIsFinal), transaction.atomic():
        LedgerEntry.objects.bulk_update([entry], ["balance_change"])
    with pytest.raises(LedgerIsFinal):
        LedgerEntry.objects.filter(pk=entry.pk).delete()
    assert LedgerEntry.objects.get().balance_change == CREDIT


@pytest.mark.parametrize("column", ["balance_microcredits", "held_microcredits"])
def test_the_database_refuses_a_negative_account(alice: User, column: str) -> None:
    account = ledger.account_of(alice.pk)
    with pytest.raises(IntegrityError), transaction.atomic():
        CreditAccount.objects.filter(pk=account.pk).update(**{column: -1})


def test_exact_figures_have_no_floats(alice: User) -> None:
    ledger.grant(user_id=alice.pk, microcredits=2**60 + 1, reference="large")
    assert ledger.balance(alice.pk).balance == 2**60 + 1
    assert ledger.as_credits(1_500_000) == 1.5
    assert isinstance(ledger.as_credits(2_000_000), int)
