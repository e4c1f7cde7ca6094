"""What a user's GitHub account opens here: its repositories' branches, its token for git."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from django.conf import settings

from accounts import github as accounts_github
from accounts.errors import GithubAway
from accounts.models import GithubAccount, User
from asynccoder.lib import outbound
from asynccoder.lib.fields import SealBroken
from repositories.errors import CredentialBroken, GithubMissing, GithubRefused, GithubTokenRefused
from repositories.forges.github import BranchFacts, GitHub
from repositories.models import Repository

logger = logging.getLogger(__name__)

MOST_BRANCHES = 1000
PORTS = {"https": 443, "http": 80}


@contextmanager
def reaching(account: GithubAccount) -> Iterator[GitHub]:
    """Give the account's GitHub to the block; a token that is refused there is remembered.

    Raises CredentialBroken, and what the block raises.
    """
    forge = GitHub(
        _token_of(account),
        api_url=settings.GITHUB_API_URL,
        timeout=settings.GITHUB_TIMEOUT_SECONDS,
    )
    try:
        yield forge
    except GithubTokenRefused:
        accounts_github.note_refusal(account)
        raise
    finally:
        forge.close()


def is_on_github(url: str) -> bool:
    """Tell whether an address leads to the operator's GitHub itself: scheme, host and port."""
    return _origin(url) == _origin(settings.GITHUB_URL)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def check_address(url: str) -> outbound.Destination:
    """Return where a repository's address leads. Raises outbound.UrlRefused.

    The operator's own GitHub may be in a private network.
    """
    _, host, port = _origin(settings.GITHUB_URL)
    allowed = [*settings.OUTBOUND_ALLOWED, f"{host}:{port}"]
    return outbound.check_url(url, allowed=allowed) if _is_ours(url) else outbound.check(url)


def _is_ours(url: str) -> bool:
    try:
        return is_on_github(url)
    except ValueError:
        return False


def name_on_github(repository: Repository) -> str:
    """Return ``owner/name`` as GitHub knows it; the user may have given it another name here."""
    return urlsplit(repository.url).path.strip("/").removesuffix(".git")


def token_for_git(repository: Repository) -> str:
    """Return the owner's GitHub token where git may send it to the repository, else "".

    Raises CredentialBroken.
    """
    is_github = repository.is_active and repository.kind == Repository.Kind.GITHUB
    if not is_github or not is_on_github(repository.url):
        return ""
    account = accounts_github.account_of(repository.owner)
    return _token_of(account) if account else ""


def _token_of(account: GithubAccount) -> str:
    try:
        return accounts_github.token_of(account).reveal()
    except SealBroken as error:
        raise CredentialBroken from error


def doubt_token(owner: User) -> bool:
    """Ask GitHub whether it still takes the owner's token; True when it has just refused it.

    Git does not say why a credential was refused.
    """
    account = accounts_github.account_of(owner)
    if account is None:
        return False
    try:
        with reaching(account) as forge:
            forge.check_token()
    except GithubTokenRefused:
        return True
    except (GithubRefused, GithubAway) as error:
        logger.info("GitHub does not say whether a token is good: %s", error)
    return False


def branches_of(repository: Repository) -> list[BranchFacts] | None:
    """Return what GitHub says of the branches, or None where only git can be asked now."""
    account = accounts_github.account_of(repository.owner) if repository.is_connected else None
    if account is None:
        return None
    try:
        with reaching(account) as forge:
            return forge.branches(name_on_github(repository), most=MOST_BRANCHES)
    except GithubMissing:
        Repository.objects.filter(pk=repository.pk).update(has_github_access=False)
    except (GithubTokenRefused, GithubRefused, GithubAway) as error:
        logger.info("branches of %s are asked of git: %s", repository.pk, error)
    return None
