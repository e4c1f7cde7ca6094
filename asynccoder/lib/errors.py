"""The errors of the platform. This module knows no Django.

AppError              VALIDATION_ERROR        400   the message is safe to show
├── NotSignedIn       UNAUTHORIZED            401
├── NotAllowed        FORBIDDEN               403
├── NotFound          RESOURCE_NOT_FOUND      404
├── Conflict          CONFLICT                409   TaskFinished, ...
├── OutOfCredit       INSUFFICIENT_CREDITS    402
├── TooLarge          PAYLOAD_TOO_LARGE       413
├── LimitReached      RATE_LIMIT_EXCEEDED     429   too many requests
├── RunFailed         its own code             -    the user's side: CloneFailed, CommandTimedOut, ...
└── TryAgain          SERVICE_UNAVAILABLE     503   a foreign service is busy or absent; a run is parked
anything else         INTERNAL_ERROR          500   our bug: logged, generic text shown

Children live in the app's ``errors.py``; every ``code`` of a RunFailed is unique.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class AppError(Exception):
    """Something the caller can mend; ``str(error)`` is safe to show to the user."""

    code: ClassVar[str] = "VALIDATION_ERROR"
    status: ClassVar[int] = 400

    def __init__(self, message: str = "", *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().split("\n")[0])
        self.details: dict[str, Any] = dict(details or {})

    @property
    def message(self) -> str:
        return str(self)


class NotSignedIn(AppError):
    """Sign in to do this."""

    code = "UNAUTHORIZED"
    status = 401


class NotAllowed(AppError):
    """You may not do this."""

    code = "FORBIDDEN"
    status = 403


class NotFound(AppError):
    """There is no such thing."""

    code = "RESOURCE_NOT_FOUND"
    status = 404


class Conflict(AppError):
    """The request does not fit the present state."""

    code = "CONFLICT"
    status = 409


class OutOfCredit(AppError):
    """There are not enough credits for this."""

    code = "INSUFFICIENT_CREDITS"
    status = 402


class TooLarge(AppError):
    """The request is too large."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class LimitReached(AppError):
    """Too many requests; try again later."""

    code = "RATE_LIMIT_EXCEEDED"
    status = 429

    def __init__(self, message: str = "", *, retry_after: float = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RunFailed(AppError):
    """The task could not be done for a reason on the user's side."""

    code = "RUN_FAILED"
    status = 400


class TryAgain(AppError):
    """A service is busy or not configured; try again later."""

    code = "SERVICE_UNAVAILABLE"
    status = 503

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, details=details)
        self.retry_after = retry_after
