"""The errors of billing; see asynccoder.lib.errors for the tree."""

from __future__ import annotations

from asynccoder.lib.errors import AppError, Conflict


class CapReached(AppError):
    """More than the task may spend."""


class HoldClosed(Conflict):
    """The hold was released already."""


class LedgerIsFinal(Exception):
    """A ledger entry is never changed and never deleted; write a new one."""


class PlanUnknown(AppError):
    """There is no such plan."""
