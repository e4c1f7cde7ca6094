"""The errors of the models; see asynccoder.lib.errors for the tree."""

from __future__ import annotations

from asynccoder.lib.errors import AppError, Conflict, NotAllowed, TryAgain


class PriceUnknown(AppError):
    """The model has no known price, so its use cannot be paid for."""


class ModelUnable(AppError):
    """The model cannot do this type of task."""


class ModelInactive(AppError):
    """The model is switched off."""


class ModelNotUsable(TryAgain):
    """There is no key for the provider of this model."""


class NoModel(TryAgain):
    """No model that can be used here does this type of task."""


class KeyRefused(AppError):
    """A provider key is one line of plain characters."""


class ModelExists(Conflict):
    """There is a model of this name already."""


class ModelNotOwn(NotAllowed):
    """Models of the platform are changed by staff."""
