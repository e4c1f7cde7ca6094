"""What can go wrong with git, as plain exceptions.

The message of each is a sentence that is safe to show: it holds no secret, no path of the
server and nothing that a remote said unless it was cleaned. ``detail`` is for the log.
"""

from __future__ import annotations

import errno
import os

FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


class GitFailed(Exception):
    """Git could not do this."""

    def __init__(self, message: str = "", *, detail: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip().split("\n")[0])
        self.detail = detail

    @property
    def is_disk_full(self) -> bool:
        """Tell whether git found no room on this server's disk."""
        return any(said in self.detail for said in FULL)


class GitMissing(GitFailed):
    """Git 2.37 or newer is needed on this server."""


class GitTimedOut(GitFailed):
    """Git took too long."""


class OutputTooLarge(GitFailed):
    """Git's answer is larger than the limit."""


class CloneFailed(GitFailed):
    """The repository could not be fetched."""


class AuthenticationFailed(CloneFailed):
    """The repository refused the credential, or needs one."""


class MirrorBusy(CloneFailed):
    """The repository is being fetched by another task; try again."""


class RepositoryEmpty(CloneFailed):
    """The repository has no commits yet."""


class RepositoryTooLarge(CloneFailed):
    """The repository is larger than the limit."""


class BranchMissing(GitFailed):
    """The repository has no such branch."""


class CheckpointBad(GitFailed):
    """What the workspace handed over is no checkpoint that can be trusted."""


class PatchRefused(GitFailed):
    """The patch does not apply."""


class PushRefused(GitFailed):
    """The remote did not take the branch."""
