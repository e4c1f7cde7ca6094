"""What no webhook told: GitHub is asked about the open pull requests, each about once an hour.

Bounded, and never in a request or by the sweeper itself: GitHub may be slow. A missed push needs
nothing, since every task fetches before it begins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

from django.utils import timezone

from accounts import github as accounts_github
from accounts.errors import GithubAway
from accounts.models import User
from asynccoder.lib import upcalls
from repositories import pull_requests
from repositories.errors import CredentialBroken, GithubRefused, GithubTokenRefused
from repositories.forges.github import GitHub
from repositories.github_access import name_on_github, reaching
from repositories.models import PullRequest

logger = logging.getLogger(__name__)

LATER_SECONDS = 300.0
"""When what could not be asked now is asked again, where GitHub does not say when."""
MOST = 100
PASS_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Caught:
    """How many pull requests GitHub was asked about, and how many of them were in another state."""

    asked: int = 0
    changed: int = 0


def ring_due() -> None:
    """Ring once where a pull request is to be asked about (UPCALLS, pull_requests_due)."""
    if _open().filter(check_after__lte=timezone.now()).exists():
        upcalls.call("pull_requests_due")


def catch_up(*, everything: bool = False) -> Caught:
    """Ask GitHub about the open pull requests that are due; with ``everything`` about all of them.

    1. Claim each by one conditional UPDATE, which puts the next look off.
    2. Ask with its owner's account; what that may not see stays as it is. Where GitHub takes no
       more requests or the time is over, what is left is asked about later.
    3. An answer changes a row unless we know something newer.
    """
    now = timezone.now()
    due = _open() if everything else _open().filter(check_after__lte=now)[:MOST]
    end = float("inf") if everything else time.monotonic() + PASS_SECONDS
    claimed = [pull for pull in due if _claim(pull)]
    claimed.sort(key=lambda pull: str(pull.repository.owner_id))
    caught = [
        _ask(owner, list(pulls), end)
        for owner, pulls in groupby(claimed, key=lambda pull: pull.repository.owner)
    ]
    return Caught(sum(one.asked for one in caught), sum(one.changed for one in caught))


def _open() -> Any:
    rows = PullRequest.objects.filter(state=PullRequest.State.OPEN, repository__is_active=True)
    return rows.select_related("repository__owner").order_by("check_after")


def _claim(pull: PullRequest) -> bool:
    # Others only put it off. (SQLite's own times are texts that equal none of ours.)
    same = PullRequest.objects.filter(pk=pull.pk, check_after__lte=pull.check_after)
    return bool(same.update(check_after=timezone.now() + pull_requests.CHECK_EVERY))


def _put_off(pulls: Iterable[PullRequest], seconds: float) -> None:
    moment = timezone.now() + timedelta(seconds=seconds)
    PullRequest.objects.filter(pk__in=[pull.pk for pull in pulls]).update(check_after=moment)


def _ask(owner: User, pulls: Sequence[PullRequest], end: float) -> Caught:
    """Ask with one user's account, one pull request after another."""
    account = accounts_github.account_of(owner)
    if account is None:
        return Caught()
    asked = changed = 0
    try:
        with reaching(account) as forge:
            for pull in pulls:
                if time.monotonic() > end:
                    _put_off(pulls[asked:], 0)
                    break
                with suppress(GithubRefused):
                    changed += _follow(forge, pull)
                asked += 1
    except (GithubTokenRefused, CredentialBroken) as error:
        logger.info("pull requests of %s are not asked about: %s", owner.pk, error)
    except GithubAway as error:
        logger.info("pull requests of %s are asked about later: %s", owner.pk, error)
        _put_off(pulls[asked:], error.retry_after or LATER_SECONDS)
    return Caught(asked, changed)


def _follow(forge: GitHub, pull: PullRequest) -> bool:
    """Take over what GitHub says; tell whether it was in another state."""
    facts = forge.pull(name_on_github(pull.repository), pull.number)
    rows = PullRequest.objects.filter(pk=pull.pk)
    is_taken = pull_requests.take_over(
        rows, state=facts.state, title=facts.title, moment=facts.described_at
    )
    return bool(is_taken) and facts.state != pull.state
