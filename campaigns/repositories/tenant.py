"""The tenant who connects hostile repositories, and everything that the platform does with one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from accounts.models import User
from asynccoder.lib.errors import AppError
from repositories import connect, git
from repositories.errors import as_failed_run
from repositories.models import Repository
from repositories.tests.make import ME, plain_git

TOKEN = "s3cret-canary-of-a-token"
BRANCH = "asynccoder/x"


@dataclass(frozen=True, slots=True)
class Refused:
    """How the platform refused: what the user is shown, and what the log gets."""

    shown: str
    detail: str


def connected(address: str, name: str = "app.git", *, secret: str = TOKEN) -> Repository:
    """Connect a repository on a server that the operator allows. Raises AppError."""
    settings.OUTBOUND_ALLOWED.append(address)
    number = uuid.uuid4().hex[:12]
    owner = User.objects.create_user(f"owner-{number}", f"{number}@example.com")
    credential = git.Credential("ada", secret) if secret else None
    return connect.connect_repository(
        owner=owner, url=f"http://{address}/{name}", credential=credential
    )


def work_on(repository: Repository) -> str:
    """Do everything that the platform does with a repository; return the commit it began with.

    Raises AppError.
    """
    connect.sync_repository(repository)
    connect.branches_of(repository)
    head = connect.commit_of(repository, repository.default_branch)
    mirror = connect.mirror_path(repository)
    store = mirror.with_name("store.git")
    with as_failed_run():
        git.build_base(mirror, head, connect.bases_path(repository), owner=ME)
        git.create_store(store, mirror)
        parent = plain_git("rev-list", "--max-parents=0", head, cwd=mirror).split()[0]
        git.diff(store, parent, head, max_bytes=10**6)
        git.changed_lines(store, parent, head)
        for entry in git.list_tree(store, head):
            git.show_file(store, head, entry.path, max_bytes=10**6)
        commit = git.final_commit(
            store, parent, head, message="Work", author_name="A", author_email="a@b"
        )
        git.write_bundle(store, parent, commit, mirror.with_name("x.bundle"))
        if connect.can_push(repository):
            remote = connect.remote_of(repository)
            git.push_branch(store, remote, commit, BRANCH, expected=None)
    return head


def refused_at(address: str, name: str = "app.git", *, secret: str = TOKEN) -> Refused | None:
    """Connect and work; return how the platform refused, or None where it went through."""
    try:
        work_on(connected(address, name, secret=secret))
    except AppError as error:
        cause = error.__cause__
        return Refused(str(error), cause.detail if isinstance(cause, git.GitFailed) else "")
    return None


def base_of(repository: Repository, head: str) -> Path:
    return connect.bases_path(repository) / head
