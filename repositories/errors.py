"""The errors of repositories; git's own exceptions are translated here and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from asynccoder.lib.errors import AppError, Conflict, NotSignedIn, RunFailed, TryAgain
from repositories.git import errors as git
from repositories.names import RULE

logger = logging.getLogger(__name__)


class RepositoryRefused(AppError):
    """The repository cannot be connected."""


class LocalPathRefused(RepositoryRefused):
    """Paths on this server can only be connected where the operator allows it."""


class CredentialBroken(RepositoryRefused):
    """The stored credential cannot be opened with this server's keys. Connect it again."""


class SettingRefused(AppError):
    """The repository's setting cannot be kept."""


class AlreadyConnected(Conflict):
    """You have connected a repository of this name already."""


class NameRefused(AppError):
    """The name is none that a repository may have."""

    def __init__(self) -> None:
        super().__init__(RULE, details={"field": "project_name"})


class HostingAway(TryAgain):
    """The storage of hosted repositories does not answer; try again later."""


class GithubTokenRefused(Conflict):
    """GitHub no longer accepts the connection of your account. Connect GitHub again."""


class GithubRefused(AppError):
    """GitHub refuses this."""


class GithubMissing(GithubRefused):
    """GitHub shows your account no such repository."""


class SignatureBad(NotSignedIn):
    """The delivery is not signed with this server's GITHUB_WEBHOOK_SECRET."""


class WebhookNotSet(TryAgain):
    """GitHub's webhooks need the setting GITHUB_WEBHOOK_SECRET."""


class DeliveryBad(AppError):
    """The delivery is none of GitHub's."""


class FetchFailed(RunFailed):
    """The repository could not be fetched."""

    code = "clone_failed"


class CredentialRefused(RunFailed):
    """The repository refused the credential, or needs one."""

    code = "authentication_failed"


class NothingCommitted(RunFailed):
    """The repository has no commits yet."""

    code = "repository_empty"


class NoSuchBranch(RunFailed):
    """The repository has no such branch."""

    code = "branch_missing"


class OverSize(RunFailed):
    """The repository is larger than the limit."""

    code = "repository_too_large"


class PatchUnfit(RunFailed):
    """The patch does not apply."""

    code = "patch_refused"


class BranchNotTaken(RunFailed):
    """The remote did not take the branch."""

    code = "push_refused"


class HandOverBad(RunFailed):
    """What the workspace handed over cannot be trusted."""

    code = "hand_over_bad"


class GitBroke(RunFailed):
    """Git could not do what the task needs."""

    code = "git_failed"


class DiskFull(RunFailed):
    """The server's disk is full. Try again once its operator has made room."""

    code = "disk_full"


# The first kind that fits decides, so children stand before their parents.
MEANINGS: tuple[tuple[type[git.GitFailed], type[RunFailed]], ...] = (
    (git.AuthenticationFailed, CredentialRefused),
    (git.RepositoryEmpty, NothingCommitted),
    (git.RepositoryTooLarge, OverSize),
    (git.CloneFailed, FetchFailed),
    (git.BranchMissing, NoSuchBranch),
    (git.PatchRefused, PatchUnfit),
    (git.PushRefused, BranchNotTaken),
    (git.CheckpointBad, HandOverBad),
    (git.GitFailed, GitBroke),
)


def failure(error: git.GitFailed) -> RunFailed:
    """Return the failed run that an error of git means; its detail goes to the log."""
    if error.detail:
        logger.info("git: %s (%s)", error, error.detail)
    if error.is_disk_full:
        return DiskFull()
    kind = next(meaning for known, meaning in MEANINGS if isinstance(error, known))
    return kind(str(error))


@contextmanager
def as_failed_run() -> Iterator[None]:
    """Translate what git raises inside the block. Raises RunFailed's children."""
    try:
        yield
    except git.GitFailed as error:
        raise failure(error) from error


@contextmanager
def as_refusal(field: str) -> Iterator[None]:
    """Translate what git raises inside the block to the refusal of one field of a request."""
    try:
        yield
    except git.GitFailed as error:
        failed = failure(error)
        details = {"field": field, "reason": failed.code}
        raise RepositoryRefused(str(failed), details=details) from error
