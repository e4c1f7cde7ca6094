"""What can go wrong with accounts, keys and tokens."""

from __future__ import annotations

from asynccoder.lib.errors import AppError, Conflict, NotSignedIn


class BadCredentials(NotSignedIn):
    """The e-mail address, the user name or the password is wrong."""


class TokenRefused(NotSignedIn):
    """The token is not valid (any more); sign in again."""


class KeyRefused(NotSignedIn):
    """The API key is not valid (any more)."""


class AddressTaken(Conflict):
    """There is already an account with this e-mail address."""


class NameTaken(Conflict):
    """There is already an account with this user name."""


class WeakPassword(AppError):
    """Choose a better password."""


class NoSession(AppError):
    """An access key has no session to end; revoke the key instead."""
