"""What can go wrong with accounts, keys and tokens."""

from __future__ import annotations

from asynccoder.lib.errors import AppError, Conflict, NotSignedIn, TryAgain


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


class StateRefused(AppError):
    """The state is not one that was issued to you in the last ten minutes; begin again."""


class CodeRefused(AppError):
    """GitHub does not take this code (any more); begin again."""


class GithubTaken(Conflict):
    """Another account here is connected to that GitHub account."""


class GithubUnconnected(Conflict):
    """Connect your GitHub account first."""


class GithubAway(TryAgain):
    """GitHub does not answer as it should; try again later."""


class GithubNotSet(TryAgain):
    """Connecting GitHub needs the settings GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET."""


class ConnectFirst(Conflict):
    """Your address has an account here: sign in to it with its password, then connect Clerk to it."""


class ClerkTaken(Conflict):
    """Another account here is connected to that Clerk account."""


class ClerkNotSet(TryAgain):
    """Signing in with Clerk needs the setting CLERK_ISSUER (and CLERK_JWKS_URL, if it is another's)."""


class ClerkAway(TryAgain):
    """Clerk does not answer as it should; try again later."""
