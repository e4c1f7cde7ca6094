"""Connecting a repository, reaching it, and the folders in which its objects are kept."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import User
from asynccoder.lib import fields, outbound, upcalls
from asynccoder.lib.errors import NotAllowed, RunFailed
from repositories import git, github_access, hosted
from repositories.errors import (
    AlreadyConnected,
    CredentialBroken,
    CredentialRefused,
    FetchFailed,
    GithubTokenRefused,
    LocalPathRefused,
    RepositoryRefused,
    as_failed_run,
    as_refusal,
)
from repositories.models import Repository
from repositories.names import NAME, RULE

PATH = re.compile(r"(/[A-Za-z0-9._~+-][A-Za-z0-9._~+=,:-]*)+/?")
CREDENTIAL_CHARACTERS = 1000
FETCH_SECONDS = 600.0
TOKEN_USER = "x-access-token"  # noqa: S105 - a user name that forges take beside a token


def connect_repository(
    *,
    owner: User,
    url: str,
    name: str = "",
    credential: git.Credential | None = None,
    default_branch: str = "",
    is_operator: bool = False,
) -> Repository:
    """Save a repository after it was reached with the credential.

    ``url`` is an https address, or an absolute path where the operator allows paths (with
    ``is_operator``, from a terminal, anywhere). Raises NotAllowed, RepositoryRefused,
    outbound.UrlRefused, AlreadyConnected.
    """
    if not owner.can_work:
        raise NotAllowed("Your role may only read.")
    repository = _described(owner, url.strip(), name.strip(), is_operator=is_operator)
    if credential and repository.kind != Repository.Kind.LOCAL:
        _seal(repository, credential)
    with as_refusal("url"):
        heads = git.remote_heads(remote_of(repository))
    repository.default_branch = _default_branch(heads, default_branch)
    try:
        with transaction.atomic():
            repository.save(force_insert=True)
    except IntegrityError:
        raise AlreadyConnected(f"You have connected {repository.full_name} already.") from None
    return repository


def _described(owner: User, url: str, name: str, *, is_operator: bool) -> Repository:
    """Return the unsaved row for an address, with its kind and names. Raises RepositoryRefused."""
    if url.startswith("/"):
        path = _local_path(url, is_operator=is_operator)
        short = _checked_name(name or path.name.removesuffix(".git"))
        return Repository(
            owner=owner, kind=Repository.Kind.LOCAL, url=str(path), name=short, full_name=short
        )
    github_access.check_address(url)
    parts = urlsplit(url)
    if parts.query or parts.fragment or not PATH.fullmatch(parts.path):
        raise RepositoryRefused("This is no address of a repository.", details={"field": "url"})
    steps = [_checked_name(step) for step in parts.path.strip("/").removesuffix(".git").split("/")]
    full_name = name or "/".join(steps[-2:])
    return Repository(
        owner=owner,
        kind=Repository.Kind.GITHUB if github_access.is_on_github(url) else Repository.Kind.GIT,
        url=f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}",
        name=_checked_name(name or steps[-1]),
        full_name=full_name[:200],
        web_url=f"{parts.scheme}://{parts.netloc.lower()}/{'/'.join(steps)}",
    )


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise RepositoryRefused(RULE, details={"field": "name"})
    return name


def _local_path(url: str, *, is_operator: bool) -> Path:
    """Return the real path of a local repository. Raises LocalPathRefused."""
    if "\0" in url or len(url) > 400:
        raise LocalPathRefused("This is no path.")
    path = Path(os.path.realpath(url))
    allowed = [Path(os.path.realpath(prefix)) for prefix in local_prefixes()]
    if not is_operator and not any(path.is_relative_to(prefix) for prefix in allowed):
        raise LocalPathRefused
    if not (path / "HEAD").is_file() and not (path / ".git").exists():
        raise RepositoryRefused("There is no git repository at this path.")
    return path


def local_prefixes() -> list[str]:
    """Return the folders under which paths may be connected: the operator's, and our samples."""
    return [*settings.LOCAL_REPOSITORIES, str(Path(settings.VAR_DIR) / "samples")]


def _default_branch(heads: git.Heads, wanted: str) -> str:
    names = [branch.name for branch in heads.branches]
    if not names:
        raise RepositoryRefused(
            "The repository has no commits yet.",
            details={"field": "url", "reason": "repository_empty"},
        )
    if wanted and wanted not in names:
        raise RepositoryRefused(
            "The repository has no such branch.",
            details={"field": "default_branch", "reason": "branch_missing"},
        )
    usual = [name for name in (wanted, heads.default, "main", "master") if name in names]
    return usual[0] if usual else names[0]


def _context(repository: Repository) -> str:
    return f"repositories.Repository:{repository.pk}:{repository.owner_id}"


def _seal(repository: Repository, credential: git.Credential) -> None:
    username, secret = credential.username.strip() or TOKEN_USER, credential.secret.strip()
    if any(not c.isprintable() for c in username + secret) or ":" in username or not secret:
        raise RepositoryRefused("This is no credential.", details={"field": "credential"})
    if len(username) + len(secret) > CREDENTIAL_CHARACTERS:
        raise RepositoryRefused("The credential is too long.", details={"field": "credential"})
    repository.sealed_credential = fields.seal(f"{username}:{secret}", context=_context(repository))


def credential_of(repository: Repository) -> git.Credential | None:
    """Return the opened credential, else the owner's GitHub token where it is GitHub's, or None.

    Raises CredentialBroken.
    """
    if not repository.sealed_credential:
        token = github_access.token_for_git(repository)
        return git.Credential(TOKEN_USER, token) if token else None
    try:
        plain = fields.unseal(repository.sealed_credential, context=_context(repository))
    except fields.SealBroken as error:
        raise CredentialBroken from error
    username, _, secret = plain.partition(":")
    return git.Credential(username, secret)


def rotate_credentials() -> fields.Rotation:
    """Seal every credential again under the newest encryption key."""
    return fields.rotate(Repository.objects.all(), "sealed_credential", _context)


def remote_of(repository: Repository) -> git.Remote:
    """Return how to reach a repository now, its address resolved and checked again.

    Raises RepositoryRefused, outbound.UrlRefused.
    """
    if repository.kind == Repository.Kind.LOCAL:
        if os.path.realpath(repository.url) != repository.url:
            raise LocalPathRefused("The path leads elsewhere than when it was connected.")
        return git.Remote(repository.url)
    if not repository.url:
        raise RepositoryRefused("The repository has no address to fetch from.")
    destination = github_access.check_address(repository.url)
    return git.Remote(
        repository.url,
        credential_of(repository),
        pinned_address=destination.address,
        is_plain_http_allowed=destination.is_plain_http,
    )


def disconnect_repository(repository: Repository) -> None:
    """Forget the credential and what is kept for other machines, and refuse new tasks.

    The results of earlier ones stay readable. One that the platform hosts is removed.
    """
    Repository.objects.filter(pk=repository.pk, is_active=True).update(
        is_active=False, sealed_credential="", updated_at=timezone.now()
    )
    transaction.on_commit(lambda: upcalls.call("repository_closed", repository.pk))
    transaction.on_commit(lambda: hosted.forget(repository))
    repository.refresh_from_db()


def sync_repository(repository: Repository, *, seconds: float = FETCH_SECONDS) -> list[git.Branch]:
    """Bring the mirror up to date and note when, or why not; return its branches.

    It takes ``seconds`` at most, and as many again where it waits for another's fetch. Raises
    RunFailed's children.
    """
    try:
        with as_failed_run():
            branches = _bring_mirror(repository, seconds)
            values = _facts(repository, branches)
    except RunFailed as error:
        failed = _blamed(repository, error)
        Repository.objects.filter(pk=repository.pk).update(sync_error=str(failed)[:500])
        raise failed from error
    Repository.objects.filter(pk=repository.pk).update(**values)
    for name, value in values.items():
        setattr(repository, name, value)
    return branches


def _bring_mirror(repository: Repository, seconds: float) -> list[git.Branch]:
    mirror = mirror_path(repository)
    if repository.kind == Repository.Kind.HOSTED:
        return hosted.bring_mirror(repository, mirror, patience=seconds)
    remote, most = _run_remote(repository), settings.REPOSITORY_MAX_BYTES
    return git.ensure_mirror(mirror, remote, max_bytes=most, timeout=seconds)


def _blamed(repository: Repository, error: RunFailed) -> RunFailed:
    """Return the error; one that says to connect GitHub again where that is the reason."""
    is_by_account = isinstance(error, CredentialRefused) and not repository.sealed_credential
    is_github = repository.kind == Repository.Kind.GITHUB
    if is_by_account and is_github and github_access.doubt_token(repository.owner):
        return CredentialRefused(str(GithubTokenRefused()))
    return error


def fetch_commit(repository: Repository, commit: str) -> None:
    """Bring a commit that no branch leads to any more into the mirror. Raises RunFailed's children."""
    with as_failed_run():
        git.fetch_commit(
            mirror_path(repository),
            _run_remote(repository),
            commit,
            max_bytes=settings.REPOSITORY_MAX_BYTES,
        )


def _run_remote(repository: Repository) -> git.Remote:
    """Return the remote for a run, to which an address that is refused now is a failed fetch."""
    try:
        return remote_of(repository)
    except (RepositoryRefused, outbound.UrlRefused) as error:
        raise FetchFailed(str(error)) from error


def _facts(repository: Repository, branches: Sequence[git.Branch]) -> dict[str, object]:
    mirror = mirror_path(repository)
    names = {branch.name for branch in branches}
    is_there = repository.default_branch in names
    return {
        "synced_at": timezone.now(),
        "sync_error": "",
        "size_bytes": git.disk_use(mirror),
        "default_branch": repository.default_branch if is_there else git.default_branch(mirror),
    }


def mirror_path(repository: Repository) -> Path:
    """Return the bare mirror's folder; ``sync_repository`` makes it."""
    return _folder(repository.pk) / "mirror.git"


def bases_path(repository: Repository) -> Path:
    """Return the folder of the base trees, one per commit."""
    return _folder(repository.pk) / "bases"


def setups_path(repository: Repository) -> Path:
    """Return the folder of what its setup command made; no other repository shares it."""
    return _folder(repository.pk) / "setups"


def _folder(pk: uuid.UUID) -> Path:
    return Path(settings.VAR_DIR) / "repositories" / str(pk)


def commit_of(repository: Repository, branch: str) -> str:
    """Return the commit of a branch in the mirror. Raises RunFailed's children."""
    with as_failed_run():
        return git.resolve_commit(mirror_path(repository), branch)


def branches_of(repository: Repository) -> list[git.Branch]:
    """Return the branches that the remote has now. Raises RepositoryRefused, HostingAway."""
    if repository.kind == Repository.Kind.HOSTED:
        mirror = mirror_path(repository)
        return hosted.bring_mirror(repository, mirror, patience=hosted.PAGE_PATIENCE)
    with as_refusal("repository"):
        return list(git.remote_heads(remote_of(repository)).branches)


def may_have_branch(repository: Repository, branch: str) -> bool:
    """Tell whether a branch may exist; a remote that cannot be asked now leaves it open."""
    if not git.is_valid_branch(branch):
        return False
    mirror = mirror_path(repository)
    try:
        if mirror.is_dir() and branch in {found.name for found in git.list_branches(mirror)}:
            return True
        heads = git.remote_heads(remote_of(repository))
    except (git.GitFailed, RepositoryRefused, outbound.UrlRefused):
        return True
    return branch in {found.name for found in heads.branches}


def can_push(repository: Repository) -> bool:
    """Tell whether a branch could be pushed: a credential, or a local repository of our own user.

    Objects written by another user (root above all) would lock the owner out of a local one.
    Raises CredentialBroken.
    """
    if repository.kind == Repository.Kind.LOCAL:
        path = Path(repository.url)
        return path.exists() and path.stat().st_uid == os.geteuid()
    return bool(repository.url and credential_of(repository))
