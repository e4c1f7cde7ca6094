"""GitHub's git beside its API: the fake of ``asynccoder.tests`` with real repositories on it."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path

from django.utils import timezone

from accounts import github as accounts_github
from accounts.models import GithubAccount, User
from asynccoder.lib import fields
from asynccoder.tests.github_server import TOKEN, FakeGithub
from repositories.tests.git_server import GitServer, answer
from repositories.tests.make import make_upstream, plain_git


def connect_account(
    user: User, github: FakeGithub, token: str = TOKEN, *, user_id: int = 1001
) -> GithubAccount:
    """Give the user a GitHub account whose token this GitHub takes."""
    github.add_user(token, user_id=user_id)
    sealed = fields.seal(token, context=accounts_github._context(user, user_id))
    account: GithubAccount = GithubAccount.objects.create(
        user=user,
        github_id=user_id,
        login="octo",
        sealed_token=sealed,
        connected_at=timezone.now(),
    )
    return account


def serve_git(github: FakeGithub, folder: Path, name: str, *, token: str = TOKEN) -> GitServer:
    """Serve a new repository of this name over git, to whoever sends the token."""
    make_upstream(folder / "work")
    bare = folder / "served" / f"{name}.git"
    plain_git("clone", "-q", "--bare", str(folder / "work"), str(bare), cwd=folder)
    served = GitServer(folder / "served", password=token, port=github.port)

    def other(handler: BaseHTTPRequestHandler, _: bytes) -> bool:
        answer(handler, served)
        return True

    github.other = other
    github.add_repository(name, private=True)
    return served
