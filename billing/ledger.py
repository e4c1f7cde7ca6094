"""The only functions that move credits. All amounts are microcredits (1 credit = 1,000,000).

Every verb is one transaction, can be joined to the caller's, and is known by its reference: the
same message twice moves the money once. Balances change by conditional UPDATEs, so two spenders
never share a credit; the CHECK constraints are the net below.

Locks are taken in the order task, user, hold, account. The user's row comes before the account
because the feed event of a change is numbered on it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from accounts import feed
from accounts.models import User
from asynccoder.lib.errors import OutOfCredit
from billing import usage
from billing.errors import CapExceeded, HoldClosed
from billing.models import CreditAccount, CreditHold, LedgerEntry

logger = logging.getLogger(__name__)

MICROCREDITS = 1_000_000
Kind = LedgerEntry.Kind


class _Repeated(Exception):
    """An entry with this reference exists: undo what this transaction did."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Microcredits: free to spend, set aside by open holds, and spent so far."""

    balance: int
    held: int
    spent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """One ledger entry to be, and what it does to the account."""

    kind: str
    reference: str
    description: str = ""
    balance: int = 0
    held: int = 0
    spent: int = 0


def account_of(user_id: UUID) -> CreditAccount:
    """Return the user's account, made on first use; two first uses make one."""
    account, _ = CreditAccount.objects.get_or_create(user_id=user_id)
    return account


def balance(user_id: UUID) -> Balance:
    account = account_of(user_id)
    return Balance(
        account.balance_microcredits, account.held_microcredits, account.spent_microcredits
    )


def grant(
    *,
    user_id: UUID,
    microcredits: int,
    reference: str,
    description: str = "",
    kind: str = Kind.GRANT,
) -> bool:
    """Add credits; return False when the reference was granted before."""
    _refuse_negative(microcredits)
    change = _Change(kind=kind, reference=reference, description=description, balance=microcredits)
    return _record(user_id, change)


def adjust(*, user_id: UUID, microcredits: int, reference: str, description: str) -> bool:
    """Correct the balance by ± microcredits. Raises OutOfCredit rather than go below zero."""
    change = _Change(
        kind=Kind.ADJUSTMENT, reference=reference, description=description, balance=microcredits
    )
    return _record(user_id, change)


def refund(*, user_id: UUID, microcredits: int, reference: str, description: str) -> bool:
    """Give back credits that were charged; return False when the reference was used before."""
    _refuse_negative(microcredits)
    change = _Change(
        kind=Kind.REFUND,
        reference=reference,
        description=description,
        balance=microcredits,
        spent=-microcredits,
    )
    return _record(user_id, change)


def hold(*, user_id: UUID, microcredits: int, reference: str, description: str) -> CreditHold:
    """Set credits aside under a reference; the same reference again returns the same hold.

    Raises OutOfCredit. A hold of nothing is a row without a ledger entry.
    """
    _refuse_negative(microcredits)
    account = account_of(user_id)
    with transaction.atomic():
        _lock(pk=user_id)
        opened, is_new = CreditHold.objects.get_or_create(
            reference=reference,
            defaults={
                "account": account,
                "amount_microcredits": microcredits,
                "remaining_microcredits": microcredits,
            },
        )
        if is_new:
            usage.note(user_id, holds=1)
        if is_new and microcredits:
            _apply(account, _set_aside(reference, microcredits, description))
    return opened


def reserve(
    *, hold_reference: str, microcredits: int, cap_microcredits: int, charged_microcredits: int
) -> None:
    """Make sure that at least ``microcredits`` remain in the open hold; top it up if need be.

    Raises CapExceeded when this and what was charged pass the cap, OutOfCredit when the balance
    cannot cover the difference, HoldClosed after the release; nothing is done then.
    """
    _refuse_negative(microcredits)
    if charged_microcredits + microcredits > cap_microcredits:
        raise CapExceeded(
            details={"cap": cap_microcredits, "charged": charged_microcredits, "next": microcredits}
        )
    with transaction.atomic():
        held = _open_hold(hold_reference)
        missing = microcredits - held.remaining_microcredits
        if missing <= 0:
            return
        _move_hold(held, remaining=missing, amount=missing)
        # Topping up is repeatable by nature; the sequence only makes the reference unique.
        reference = f"{hold_reference}:more:{held.account.entry_sequence + 1}"
        _apply(held.account, _set_aside(reference, missing, f"More for {hold_reference}"))


def charge(*, hold_reference: str, microcredits: int, reference: str, description: str) -> int:
    """Spend from the hold; return what was charged, 0 when the reference was charged before.

    Never more than the hold has left: what was reserved is the most that a task's owner agreed
    to. The rest is the platform's loss and is logged. Raises HoldClosed after the release.
    """
    _refuse_negative(microcredits)
    with transaction.atomic():
        held = _hold_for_update(hold_reference)
        if LedgerEntry.objects.filter(reference=reference).exists():
            return 0
        if not held.is_open:
            raise HoldClosed
        if not microcredits:
            return 0
        charged = min(microcredits, held.remaining_microcredits)
        uncovered = microcredits - charged
        if uncovered:
            logger.error("%s: %d microcredits could not be charged", reference, uncovered)
            description = f"{description} ({uncovered} microcredits not covered)"
        _move_hold(held, remaining=-charged)
        change = _Change(
            kind=Kind.CHARGE,
            reference=reference,
            description=description,
            held=-charged,
            spent=charged,
        )
        _apply(held.account, change)
    return charged


def release(*, hold_reference: str) -> int:
    """Close the hold and give the rest back; return it in microcredits (0 when closed before)."""
    with transaction.atomic():
        held = _hold_for_update(hold_reference)
        rest = held.remaining_microcredits
        closed = CreditHold.objects.filter(pk=held.pk, is_open=True, remaining_microcredits=rest)
        if not closed.update(is_open=False, remaining_microcredits=0, closed_at=timezone.now()):
            return 0
        if rest:
            change = _Change(
                kind=Kind.RELEASE,
                reference=f"{hold_reference}:release",
                description=f"Not used by {hold_reference}",
                balance=rest,
                held=-rest,
            )
            _apply(held.account, change)
    return rest


def _refuse_negative(microcredits: int) -> None:
    if microcredits < 0:
        raise ValueError("an amount of credits is never negative here")


def _set_aside(reference: str, microcredits: int, description: str) -> _Change:
    return _Change(
        kind=Kind.HOLD,
        reference=reference,
        description=description,
        balance=-microcredits,
        held=microcredits,
    )


def _lock(**owner: Any) -> None:
    """Take the user's row (PostgreSQL); SQLite's transactions are exclusive from their start."""
    if connection.features.has_select_for_update:
        users = User.objects.select_for_update(no_key=True, of=("self",))
        users.only("pk").filter(**owner).first()


def _hold_for_update(reference: str) -> CreditHold:
    """Return the hold with its account, both as they are while the user's row is locked."""
    _lock(credit_account__holds__reference=reference)
    # A query of its own: the one that waited for the lock saw the rows as they were before.
    return CreditHold.objects.select_related("account").get(reference=reference)


def _open_hold(reference: str) -> CreditHold:
    held = _hold_for_update(reference)
    if not held.is_open:
        raise HoldClosed
    return held


def _move_hold(held: CreditHold, *, remaining: int, amount: int = 0) -> None:
    won = CreditHold.objects.filter(
        pk=held.pk, is_open=True, remaining_microcredits__gte=-remaining
    ).update(
        remaining_microcredits=F("remaining_microcredits") + remaining,
        amount_microcredits=F("amount_microcredits") + amount,
    )
    if not won:
        raise HoldClosed


def _record(user_id: UUID, change: _Change) -> bool:
    """Apply a change in its own transaction; return False when its reference exists."""
    account = account_of(user_id)
    try:
        with transaction.atomic():
            _lock(pk=user_id)
            _apply(account, change)
    except _Repeated:
        return False
    return True


def _apply(account: CreditAccount, change: _Change) -> None:
    """Move the money and write the entry, within the caller's transaction.

    1. Move balance and held in one UPDATE that cannot take what is not there.
    2. Read the row back (it is ours until the commit).
    3. No row moved means too little credit: raise OutOfCredit, or _Repeated if there is an entry
       with this reference already.
    4. Write the entry; that its reference is taken means that it was done before: raise _Repeated.
    5. Count what was spent or given back in the month's usage.
    6. Tell the user's feed when the free balance changed.
    """
    moved = CreditAccount.objects.filter(
        pk=account.pk,
        balance_microcredits__gte=-change.balance,
        held_microcredits__gte=-change.held,
    ).update(
        balance_microcredits=F("balance_microcredits") + change.balance,
        held_microcredits=F("held_microcredits") + change.held,
        spent_microcredits=F("spent_microcredits") + change.spent,
        entry_sequence=F("entry_sequence") + 1,
        updated_at=timezone.now(),
    )
    account.refresh_from_db()
    if not moved:
        if LedgerEntry.objects.filter(reference=change.reference).exists():
            raise _Repeated
        raise _out_of_credit(account, change)
    _write(account, change)
    if change.kind == Kind.CHARGE:
        usage.note(account.user_id, charges=1, charged_microcredits=change.spent)
    elif change.kind == Kind.REFUND:
        usage.note(account.user_id, refunded_microcredits=-change.spent)
    if change.balance:
        _announce(account, change.balance)


def _out_of_credit(account: CreditAccount, change: _Change) -> OutOfCredit:
    needed, available = -change.balance, account.balance_microcredits
    return OutOfCredit(
        f"This needs {as_credits(needed):g} credits and the account has {as_credits(available):g}.",
        details={"needed": as_credits(needed), "balance": as_credits(available)},
    )


def _write(account: CreditAccount, change: _Change) -> None:
    try:
        with transaction.atomic():
            LedgerEntry.objects.create(
                account=account,
                sequence=account.entry_sequence,
                kind=change.kind,
                reference=change.reference,
                description=change.description[:300],
                balance_change=change.balance,
                held_change=change.held,
                balance_after=account.balance_microcredits,
                held_after=account.held_microcredits,
            )
    except IntegrityError as error:
        raise _Repeated from error


def _announce(account: CreditAccount, change: int) -> None:
    feed.append(
        user_id=account.user_id,
        event="credits:updated",
        data={
            "userId": str(account.user_id),
            "credits": as_credits(account.balance_microcredits),
            "change": as_credits(change),
        },
    )


def whole_credits(microcredits: int) -> int:
    """Return credits as a task shows them: rounded up to whole ones (contract, section 7)."""
    return -(-microcredits // MICROCREDITS)


def as_credits(microcredits: int) -> float | int:
    """Return whole or decimal credits for showing; never for counting with."""
    whole, rest = divmod(microcredits, MICROCREDITS)
    return whole if not rest else microcredits / MICROCREDITS
