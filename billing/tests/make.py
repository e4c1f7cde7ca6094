"""Builders for billing's tests."""

from __future__ import annotations

from django.db.models import Sum

from accounts.models import User
from billing import ledger
from billing.models import CreditAccount, LedgerEntry

CREDIT = ledger.MICROCREDITS


def give(user: User, credits: int) -> None:
    """Grant whole credits; each call is a grant of its own."""
    number = ledger.account_of(user.pk).entry_sequence
    ledger.grant(
        user_id=user.pk, microcredits=credits * CREDIT, reference=f"test:{user.pk}:{number}"
    )


def assert_books_balance(user: User) -> None:
    """Compare the account with the sum of its entries, and each entry with the one before."""
    account = CreditAccount.objects.get(user=user)
    entries = LedgerEntry.objects.filter(account=account).order_by("sequence")
    sums = entries.aggregate(balance=Sum("balance_change"), held=Sum("held_change"))
    assert (sums["balance"] or 0) == account.balance_microcredits >= 0
    assert (sums["held"] or 0) == account.held_microcredits >= 0
    held_by_holds = account.holds.filter(is_open=True).aggregate(
        total=Sum("remaining_microcredits")
    )
    assert (held_by_holds["total"] or 0) == account.held_microcredits
    balance = held = 0
    for number, entry in enumerate(entries, start=1):
        balance, held = balance + entry.balance_change, held + entry.held_change
        assert (number, balance, held) == (entry.sequence, entry.balance_after, entry.held_after)
