"""Connecting a user's GitHub account: the only functions that write it or read its token.

Who is signed in connects; nobody is ever found, signed in or merged by what GitHub says of a
person, least of all by an e-mail address. One GitHub account belongs to one account here.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import github_oauth
from accounts.errors import GithubTaken, GithubUnconnected, StateRefused
from accounts.models import GithubAccount, GithubState, User
from asynccoder.lib import fields
from asynccoder.lib.errors import NotAllowed
from asynccoder.lib.fields import Rotation, Secret

STATE_LIFE = timedelta(minutes=10)


def begin(user: User, *, redirect_uri: str = "") -> tuple[str, str]:
    """Return where the user agrees, and the state that comes back with the code: used once.

    Raises NotAllowed, GithubNotSet.
    """
    _refuse_viewer(user)
    github_oauth.require_settings()
    state, now = secrets.token_urlsafe(32), timezone.now()
    GithubState.objects.filter(expires_at__lt=now).delete()
    GithubState.objects.create(user=user, digest=_digest(state), expires_at=now + STATE_LIFE)
    return github_oauth.authorize_url(state, redirect_uri=redirect_uri), state


def connect(user: User, *, code: str, state: str = "", redirect_uri: str = "") -> GithubAccount:
    """Exchange the code and keep the account with its token, in place of an earlier one.

    A state that is given must have been issued to this user. Raises NotAllowed, StateRefused,
    CodeRefused, GithubTaken, GithubAway, GithubNotSet.
    """
    _refuse_viewer(user)
    github_oauth.require_settings()
    if state:
        _use_state(user, state)
    granted = github_oauth.exchange(code, state=state, redirect_uri=redirect_uri)
    sealed = fields.seal(granted.token.reveal(), context=_context(user, granted.github_id))
    values = {
        "github_id": granted.github_id,
        "login": granted.login,
        "name": granted.name,
        "avatar_url": granted.avatar_url,
        "scopes": granted.scopes,
        "sealed_token": sealed,
        "refused_at": None,
        "connected_at": timezone.now(),
    }
    try:
        with transaction.atomic():
            return GithubAccount.objects.update_or_create(user=user, defaults=values)[0]
    except IntegrityError:
        raise GithubTaken from None


def disconnect(user: User) -> bool:
    """Forget the account and its token; then tell whether GitHub took the agreement back, too.

    Whatever GitHub does, the token is not kept here. Raises GithubUnconnected.
    """
    account = GithubAccount.objects.filter(user=user).first()
    if account is None or not GithubAccount.objects.filter(pk=account.pk).delete()[0]:
        raise GithubUnconnected("There is no GitHub account to disconnect.")
    try:
        return github_oauth.revoke(token_of(account))
    except fields.SealBroken:
        return False


def farewell(*, is_revoked: bool) -> str:
    """Return what a user who has disconnected is told."""
    if is_revoked:
        return "GitHub is disconnected; its token is forgotten here and revoked at GitHub."
    return (
        "GitHub is disconnected and its token is forgotten here. GitHub did not confirm that it is "
        f"revoked: take it back at {settings.GITHUB_URL}/settings/applications."
    )


def account_of(user: User) -> GithubAccount | None:
    """Return the account that works now, as far as we know, or None."""
    return GithubAccount.objects.usable().filter(user=user).first()


def token_of(account: GithubAccount) -> Secret:
    """Return the opened token. Raises SealBroken."""
    context = _context(account.user, account.github_id)
    return Secret(fields.unseal(account.sealed_token, context=context))


def note_refusal(account: GithubAccount) -> None:
    """Remember that GitHub does not take this token any more; a newer one is not meant."""
    rows = GithubAccount.objects.filter(pk=account.pk, sealed_token=account.sealed_token)
    rows.filter(refused_at__isnull=True).update(refused_at=timezone.now())


def rotate_tokens() -> Rotation:
    """Seal every token again under the newest encryption key."""
    accounts = GithubAccount.objects.select_related("user")
    return fields.rotate(
        accounts, "sealed_token", lambda account: _context(account.user, account.github_id)
    )


def _refuse_viewer(user: User) -> None:
    if not user.can_work:
        raise NotAllowed("Your role may only read.")


def _use_state(user: User, state: str) -> None:
    """Use a state up: the one DELETE that finds its row wins. Raises StateRefused."""
    alive = GithubState.objects.filter(user=user, expires_at__gt=timezone.now())
    if not alive.filter(digest=_digest(state)).delete()[0]:
        raise StateRefused


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def _context(user: User, github_id: int) -> str:
    return f"accounts.GithubAccount:{github_id}:{user.pk}"
