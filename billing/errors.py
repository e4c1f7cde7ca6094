"""The errors of billing; see asynccoder.lib.errors for the tree."""

from __future__ import annotations

from asynccoder.lib.errors import AppError, Conflict, TryAgain


class CapExceeded(AppError):
    """More than the task may spend."""


class HoldClosed(Conflict):
    """The hold was released already."""


class LedgerIsFinal(Exception):
    """A ledger entry is never changed and never deleted; write a new one."""


class PlanUnknown(AppError):
    """There is no such plan."""


class PaymentsNotSet(TryAgain):
    """Paying for a plan needs the setting STRIPE_SECRET_KEY."""


class PaymentsMissing(TryAgain):
    """Payments are not part of this version, STRIPE_SECRET_KEY or not; staff can put you on a plan."""
