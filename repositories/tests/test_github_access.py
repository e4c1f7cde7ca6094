"""Private repositories are reached with their owner's GitHub token, and with nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import LazySettings
from rest_framework.test import APIClient

from accounts.models import GithubAccount, User
from asynccoder.lib.errors import RunFailed
from asynccoder.lib.outbound import UrlRefused
from asynccoder.tests.github_server import TOKEN, FakeGithub, Fault
from repositories import connect, git, github_access, sync
from repositories.errors import CredentialRefused, RepositoryRefused
from repositories.models import Repository, RepositoryAccess
from repositories.tests.github_server import connect_account, serve_git
from repositories.tests.rows import make_repository

ACCOUNT = git.Credential("x-access-token", TOKEN)


def synced(owner: User, github: FakeGithub) -> Repository:
    sync.sync_from_github(owner)
    return Repository.objects.get(owner=owner)


def test_a_private_repository_is_fetched_with_the_owners_token(
    alice: User, github: FakeGithub, tmp_path: Path
) -> None:
    connect_account(alice, github)
    server = serve_git(github, tmp_path, "octo/app")
    repository = synced(alice, github)
    connect.sync_repository(repository)
    assert connect.commit_of(repository, "main")
    assert connect.can_push(repository)
    assert {one.authorization.split()[0] for one in server.seen} == {"Basic"}
    assert TOKEN not in repr(Repository.objects.values())


def test_it_can_be_connected_by_its_address_too(
    alice: User, mallory: User, github: FakeGithub, tmp_path: Path
) -> None:
    connect_account(alice, github)
    serve_git(github, tmp_path, "octo/app")
    url = f"{github.url}/octo/app"
    repository = connect.connect_repository(owner=alice, url=url)
    assert (repository.kind, repository.sealed_credential) == ("github", "")
    # The control: without an account, the same address asks for a credential.
    with pytest.raises(RepositoryRefused) as caught:
        connect.connect_repository(owner=mallory, url=url)
    assert caught.value.details["reason"] == "authentication_failed"


def test_a_credential_of_its_own_goes_first(alice: User, github: FakeGithub) -> None:
    connect_account(alice, github)
    repository = make_repository(alice, kind="github", url=f"{github.url}/octo/app.git")
    assert connect.credential_of(repository) == ACCOUNT
    connect._seal(repository, git.Credential("bot", "own-token"))
    assert connect.credential_of(repository) == git.Credential("bot", "own-token")


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com.evil.example/octo/app",
        "https://evil.example/octo/app",
        "https://127.0.0.1/octo/app",
        "http://127.0.0.1:1/octo/app",
    ],
)
def test_the_token_goes_to_no_other_place_than_github(
    url: str, alice: User, github: FakeGithub
) -> None:
    connect_account(alice, github)
    assert connect.credential_of(make_repository(alice, kind="github", url=url)) is None
    own = make_repository(alice, name="own", kind="github", url=f"{github.url}/octo/app")
    assert connect.credential_of(own) == ACCOUNT


def test_the_token_is_the_owners_and_ends_with_the_connection(
    alice: User, mallory: User, github: FakeGithub
) -> None:
    connect_account(alice, github)
    url = f"{github.url}/octo/app"
    theirs = make_repository(mallory, kind="github", url=url)
    RepositoryAccess.objects.create(repository=theirs, user=alice, level="write")
    assert connect.credential_of(theirs) is None
    mine = make_repository(alice, kind="github", url=url)
    assert connect.credential_of(mine) == ACCOUNT
    connect.disconnect_repository(mine)
    assert connect.credential_of(mine) is None


def test_the_operators_github_may_be_private_and_nothing_else_there(
    alice: User, github: FakeGithub, settings: LazySettings
) -> None:
    assert github_access.check_address(f"{github.url}/octo/app").address == "127.0.0.1"
    with pytest.raises(UrlRefused):
        github_access.check_address(f"http://127.0.0.1:{github.port + 1}/octo/app")
    settings.GITHUB_URL = "https://github.com"
    with pytest.raises(UrlRefused):
        github_access.check_address(f"{github.url}/octo/app")


def test_a_revoked_token_ends_the_connection_in_plain_words(
    alice: User, alice_api: APIClient, github: FakeGithub, tmp_path: Path
) -> None:
    connect_account(alice, github)
    server = serve_git(github, tmp_path, "octo/app")
    repository = synced(alice, github)
    server.password = "another"
    # GitHub still takes the token, so the connection is not to blame.
    with pytest.raises(CredentialRefused, match="refused the credential"):
        connect.sync_repository(repository)
    assert GithubAccount.objects.get().refused_at is None
    del github.users[TOKEN]
    with pytest.raises(RunFailed, match="Connect GitHub again"):
        connect.sync_repository(repository)
    shown = alice_api.get(f"/api/v1/repositories/{repository.pk}").json()
    assert shown["connected"] is False
    assert "Connect GitHub again" in shown["sync_error"]


def test_branches_say_which_are_protected(
    alice: User, alice_api: APIClient, mallory_api: APIClient, api: APIClient, github: FakeGithub
) -> None:
    connect_account(alice, github)
    github.add_repository("octo/app")
    repository = synced(alice, github)
    github.branches["octo/app"] = [
        {"name": f"b{number:03}", "commit": {"sha": "a" * 40, "url": "x"}, "protected": number == 7}
        for number in range(130)
    ] + [{"name": "main", "commit": {"sha": "b" * 40, "url": "x"}, "protected": True}]
    path = f"/api/repositories/{repository.pk}/branches"
    answer = alice_api.get(path)
    found = {row["name"]: row for row in answer.json()["data"]["branches"]}
    assert len(found) == 131
    assert found["main"] == {
        "name": "main",
        "commit": {"sha": "b" * 40, "url": f"{github.url}/octo/app/commit/{'b' * 40}"},
        "protected": True,
        "isDefault": True,
    }
    assert [name for name, row in found.items() if row["protected"]] == ["b007", "main"]
    assert mallory_api.get(path).status_code == 404
    assert api.get(path).status_code == 401


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_where_github_does_not_say_git_is_asked(
    status: int, alice: User, alice_api: APIClient, github: FakeGithub, tmp_path: Path
) -> None:
    connect_account(alice, github)
    serve_git(github, tmp_path, "octo/app", token="")
    repository = synced(alice, github)
    github.faults = [Fault("branches", status=status, body=b"{}")]
    answer = alice_api.get(f"/api/v1/repositories/{repository.pk}/branches")
    assert [row["name"] for row in answer.json()["branches"]] == ["main"]
    repository = Repository.objects.select_related("owner__github_account").get()
    assert repository.is_connected is (status not in (401, 404))
