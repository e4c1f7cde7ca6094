"""Bringing the repositories that a user's GitHub account reaches into the user's list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import CharField
from django.db.models.functions import Cast
from django.utils import timezone

from accounts import github as accounts_github
from accounts.errors import GithubUnconnected
from accounts.models import GithubAccount, User
from asynccoder.lib import storable
from asynccoder.lib.errors import NotAllowed
from repositories.errors import GithubTokenRefused
from repositories.forges.github import RepositoryFacts
from repositories.github_access import reaching
from repositories.models import Repository

MOST = 5000
FOLLOWED = (
    "kind", "github_id", "name", "full_name", "description", "language", "default_branch",
    "is_private", "url", "web_url", "has_github_access", "is_active",
)  # fmt: skip
"""The fields that follow GitHub; everything else is the user's."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync did: how many rows follow GitHub now, and how many of them are new or changed."""

    synced: int
    added: int
    updated: int
    left_out: int = 0
    is_cut: bool = False

    @property
    def message(self) -> str:
        words = ["Repositories synced successfully"]
        if self.left_out:
            words.append(f"{self.left_out} left out: you have other repositories of these names")
        if self.is_cut:
            words.append(f"GitHub has more than {MOST}; the rest is left out")
        return ". ".join(words)


def sync_from_github(user: User, *, force: bool = False) -> Synced:
    """Make the user's list follow GitHub: new ones are added, known ones brought up to date.

    1. Ask GitHub for all pages, with no transaction open.
    2. Lock the user's GitHub account: syncs of one user follow each other.
    3. Match by GitHub's id, else by the address of one that was connected by it.
    4. What GitHub shows no more is not connected any more; it is never deleted.
    A repository that was disconnected here comes back only with ``force``.
    Raises NotAllowed, GithubUnconnected, GithubTokenRefused, GithubRefused, GithubAway.
    """
    if not user.can_work:
        raise NotAllowed("Your role may only read.")
    account = accounts_github.account_of(user)
    if account is None:
        refused = GithubAccount.objects.filter(user=user).exists()
        raise GithubTokenRefused if refused else GithubUnconnected
    with reaching(account) as forge:
        # One more than we take, so that we know whether there are more.
        facts = forge.repositories(most=MOST + 1)
    with transaction.atomic():
        if not GithubAccount.objects.select_for_update().filter(pk=account.pk).exists():
            raise GithubUnconnected
        return _follow(user, facts[:MOST], force=force, is_cut=len(facts) > MOST)


@dataclass(slots=True)
class _Plan:
    created: list[Repository] = field(default_factory=list)
    changed: list[Repository] = field(default_factory=list)
    followed: int = 0
    left_out: int = 0


def _follow(user: User, facts: Sequence[RepositoryFacts], *, force: bool, is_cut: bool) -> Synced:
    # A page may repeat a row of the one before it, and a name may move while we read.
    facts = list({one.github_id: one for one in facts}.values())
    facts = list({one.full_name.lower(): one for one in facts}.values())
    known = _Known(Repository.objects.filter(owner=user).order_by("created_at"), facts)
    plan = _Plan()
    for fact in facts:
        _place(user, fact, known, plan, force=force)
    if not is_cut:
        _lose(known)
    _write(plan)
    return Synced(plan.followed, len(plan.created), len(plan.changed), plan.left_out, is_cut)


class _Known:
    """The user's rows, by GitHub's id, by address and by name; active ones before the others."""

    def __init__(self, rows: Iterable[Repository], facts: Sequence[RepositoryFacts]) -> None:
        self.rows = sorted(rows, key=lambda row: row.is_active)
        self.seen = {fact.github_id for fact in facts}
        active = [row for row in self.rows if row.is_active]
        self.by_id = {row.github_id: row for row in self.rows if row.github_id}
        self.by_name = {row.full_name.lower(): row for row in active}
        self.adoptable = {_bare(row.url): row for row in active if self._is_adoptable(row)}

    def _is_adoptable(self, row: Repository) -> bool:
        """Tell whether a row may become another's: connected by its address, or made anew."""
        is_github = row.kind == Repository.Kind.GITHUB
        return is_github and (row.github_id is None or row.github_id not in self.seen)

    def row_of(self, fact: RepositoryFacts) -> Repository | None:
        row = self.by_id.get(fact.github_id)
        if row is None or not row.is_active:
            row = self.adoptable.get(_bare(_address(fact)), row)
        return row


def _place(user: User, fact: RepositoryFacts, known: _Known, plan: _Plan, *, force: bool) -> None:
    """Find the row of one repository, or make it, and note what of it changes."""
    row, namesake = known.row_of(fact), known.by_name.get(fact.full_name.lower())
    if row is not None and not row.is_active and not force:
        return
    if namesake is not None and namesake is not row and namesake.github_id not in known.seen:
        plan.left_out += 1
        return
    plan.followed += 1
    values = _values(fact)
    if row is None:
        plan.created.append(Repository(owner=user, **values))
    elif any(getattr(row, name) != value for name, value in values.items()):
        for name, value in values.items():
            setattr(row, name, value)
        plan.changed.append(row)


def _lose(known: _Known) -> None:
    """Note which rows GitHub shows no more."""
    shown = [row for row in known.rows if row.has_github_access]
    lost = [row.pk for row in shown if row.github_id not in known.seen]
    Repository.objects.filter(pk__in=lost).update(has_github_access=False)


def _address(fact: RepositoryFacts) -> str:
    return f"{settings.GITHUB_URL}/{fact.full_name}"


def _bare(url: str) -> str:
    return url.removesuffix(".git").lower()


def _values(fact: RepositoryFacts) -> dict[str, Any]:
    address = _address(fact)
    return {
        "kind": Repository.Kind.GITHUB,
        "github_id": fact.github_id,
        "name": fact.full_name.rpartition("/")[2],
        "full_name": fact.full_name,
        "description": storable.text(fact.description)[:2000],
        "language": storable.text(fact.language)[:50],
        "default_branch": storable.text(fact.default_branch)[:255],
        "is_private": fact.is_private,
        # Ours to build: a token is sent there.
        "url": f"{address}.git",
        "web_url": address,
        "has_github_access": True,
        "is_active": True,
    }


def _write(plan: _Plan) -> None:
    now = timezone.now()
    for row in plan.changed:
        row.updated_at = now
    # Names may have changed places: nobody has one while they are handed out.
    rows = Repository.objects.filter(pk__in=[row.pk for row in plan.changed])
    rows.update(full_name=Cast("pk", CharField()))
    Repository.objects.bulk_create(plan.created, batch_size=100)
    Repository.objects.bulk_update(plan.changed, [*FOLLOWED, "updated_at"], batch_size=50)
