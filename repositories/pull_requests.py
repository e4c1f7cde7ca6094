"""Opening pull requests: one for each branch that the platform pushes, whatever dies meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from accounts import github as accounts_github
from accounts.errors import GithubAway, GithubUnconnected
from asynccoder.lib import storable
from repositories.errors import GithubRefused
from repositories.forges.github import GitHub, NewPull, PullFacts
from repositories.github_access import is_on_github, name_on_github, reaching
from repositories.models import PullRequest, Repository

PAUSES = (2.0, 5.0, 15.0)
"""Seconds between the tries while GitHub is away; after the last one it is given up."""
LONGEST_PAUSE = 30.0
CHECK_EVERY = timedelta(hours=1)
"""How often GitHub is asked about one that is open, beside what its webhooks tell."""
TITLE_CHARACTERS, BODY_CHARACTERS = 250, 20_000


def are_taken(repository: Repository) -> bool:
    """Tell whether pull requests can be opened there now: it is GitHub's, and its owner connected."""
    is_github = repository.is_active and repository.kind == Repository.Kind.GITHUB
    if not is_github or not is_on_github(repository.url):
        return False
    return accounts_github.account_of(repository.owner) is not None


def opened_from(repository: Repository, branch: str) -> PullRequest | None:
    """Return the stored pull request of a branch, or None."""
    found: PullRequest | None = repository.pull_requests.filter(head_branch=branch).first()
    return found


def open_once(repository: Repository, new: NewPull, *, check: Callable[[], None]) -> PullRequest:
    """Return the branch's one pull request: the stored one, GitHub's own, or one opened now.

    1. Look in our table, then at GitHub by the branch: an earlier try may have come so far.
    2. ``check`` raises when the caller may not act any more; it is asked right before the act.
    3. Open it; after a refusal look again, since GitHub takes one per branch.
    4. While GitHub is away, begin again from the look, a few times.
    Raises GithubUnconnected, GithubTokenRefused, GithubRefused, GithubAway, and what check raises.
    """
    stored = opened_from(repository, new.head)
    if stored is not None:
        return stored
    for pause in PAUSES:
        try:
            return _open(repository, new, check)
        except GithubAway as error:
            time.sleep(min(max(pause, error.retry_after or 0), LONGEST_PAUSE))
    return _open(repository, new, check)


def _open(repository: Repository, new: NewPull, check: Callable[[], None]) -> PullRequest:
    account = accounts_github.account_of(repository.owner)
    if account is None:
        raise GithubUnconnected
    with reaching(account) as forge:
        return _keep(repository, _found_or_made(forge, name_on_github(repository), new, check))


def _found_or_made(forge: GitHub, name: str, new: NewPull, check: Callable[[], None]) -> PullFacts:
    found = forge.pull_of(name, new.head)
    if found is not None:
        return found
    check()
    try:
        return forge.open_pull(name, _presentable(new))
    except GithubRefused:
        found = forge.pull_of(name, new.head)
        if found is None:
            raise
        return found


def _presentable(new: NewPull) -> NewPull:
    """Return it in GitHub's sizes, and without calling anybody: a model wrote it."""
    title = " ".join(storable.text(new.title).split())[:TITLE_CHARACTERS] or new.head
    body = storable.text(new.body)[:BODY_CHARACTERS]
    return NewPull(new.head, new.base, _uncalled(title), _uncalled(body))


def _uncalled(text: str) -> str:
    """Part the @ of a mention from its name by a mark that is not seen."""
    return re.sub(r"@(?=[A-Za-z0-9])", "@\u2060", text)


def take_over(rows: QuerySet[PullRequest], *, state: str, title: str, moment: datetime) -> int:
    """Take over what GitHub says, unless we know something newer; return how many rows did.

    ``moment`` is GitHub's own time of it.
    """
    older = rows.filter(described_at__lte=moment)
    title = storable.text(title)[:300]
    return older.update(state=state, title=title, described_at=moment)


def _keep(repository: Repository, facts: PullFacts) -> PullRequest:
    values = {
        "url": f"{settings.GITHUB_URL}/{name_on_github(repository)}/pull/{facts.number}",
        "title": storable.text(facts.title)[:300],
        "state": facts.state,
        "head_branch": facts.head[:255],
        "base_branch": facts.base[:255],
        "described_at": facts.described_at,
        "check_after": timezone.now() + CHECK_EVERY,
    }
    rows = PullRequest.objects.get_or_create(
        repository=repository, number=facts.number, defaults=values
    )
    kept: PullRequest = rows[0]
    return kept
