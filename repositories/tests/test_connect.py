"""A repository is saved only after it was reached; everything else is refused with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from accounts.models import User
from asynccoder.lib.errors import AppError, Conflict, NotAllowed, RunFailed
from asynccoder.lib.outbound import UrlRefused
from repositories import connect, errors, git
from repositories.git import errors as git_errors
from repositories.models import Repository
from repositories.tests.git_server import GitServer, serving
from repositories.tests.make import commit_upstream, make_upstream, plain_git

SECRET = "token-canary-123"


@pytest.fixture
def server(tmp_path: Path, settings: LazySettings) -> Iterator[GitServer]:
    make_upstream(tmp_path / "work")
    plain_git("branch", "side", cwd=tmp_path / "work")
    bare = str(tmp_path / "served/acme/app.git")
    plain_git("clone", "-q", "--bare", str(tmp_path / "work"), bare, cwd=tmp_path)
    with serving(tmp_path / "served") as served:
        settings.OUTBOUND_ALLOWED = [served.address]
        yield served


def connected(owner: User, server: GitServer, *, secret: str = "", **values: str) -> Repository:
    credential = git.Credential("", secret) if secret else None
    return connect.connect_repository(
        owner=owner,
        url=server.url("acme/app.git"),
        credential=credential,
        name=values.get("name", ""),
        default_branch=values.get("default_branch", ""),
    )


def test_public_repository_is_connected(alice: User, server: GitServer) -> None:
    repository = connected(alice, server)
    assert (repository.name, repository.full_name) == ("app", "acme/app")
    assert repository.default_branch == "main"
    assert repository.kind == Repository.Kind.GIT
    assert repository.sealed_credential == ""


def test_private_repository_needs_its_credential_and_keeps_it_sealed(
    alice: User, server: GitServer
) -> None:
    server.password = SECRET
    with pytest.raises(AppError) as caught:
        connected(alice, server)
    assert caught.value.details == {"field": "url", "reason": "authentication_failed"}
    repository = connected(alice, server, secret=SECRET)
    assert SECRET not in repr(Repository.objects.filter(pk=repository.pk).values())
    assert connect.credential_of(repository) == git.Credential("x-access-token", SECRET)


def test_credential_does_not_open_on_another_row(
    alice: User, mallory: User, server: GitServer
) -> None:
    server.password = SECRET
    mine = connected(alice, server, secret=SECRET)
    theirs = connected(mallory, server, secret=SECRET)
    theirs.sealed_credential = mine.sealed_credential
    with pytest.raises(errors.CredentialBroken):
        connect.credential_of(theirs)


def test_chosen_branch_becomes_the_default(alice: User, server: GitServer) -> None:
    assert connected(alice, server, default_branch="side").default_branch == "side"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": 500}, "clone_failed"),
        ({"status": 404}, "clone_failed"),
        ({"redirect_to": "http://127.0.0.1:9"}, "clone_failed"),
        ({"password": "x"}, "authentication_failed"),
    ],
)
def test_what_cannot_be_reached_is_refused_with_its_reason(
    alice: User, server: GitServer, change: dict[str, object], reason: str
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(AppError) as caught:
        connected(alice, server)
    assert caught.value.details["reason"] == reason
    assert not Repository.objects.exists()


def test_empty_repository_is_refused(alice: User, server: GitServer, tmp_path: Path) -> None:
    plain_git("init", "-q", "--bare", str(server.root / "empty.git"), cwd=tmp_path)
    with pytest.raises(AppError) as caught:
        connect.connect_repository(owner=alice, url=server.url("empty.git"))
    assert caught.value.details["reason"] == "repository_empty"


def test_missing_branch_is_refused(alice: User, server: GitServer) -> None:
    with pytest.raises(AppError) as caught:
        connected(alice, server, default_branch="absent")
    assert caught.value.details["reason"] == "branch_missing"


@pytest.mark.parametrize("name", ["-rf", "a b", "a/b", "..", "a\nb", "\x1b[0m", "x" * 101, ".git"])
def test_odd_names_are_refused(alice: User, server: GitServer, name: str) -> None:
    with pytest.raises(AppError):
        connected(alice, server, name=name)
    assert server.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//x",
        "/-x",
        "/a/--upload-pack=x",
        "/a/%2e%2e/b",
        "/a/../b",
        "/a?x=y",
        "/a#x",
        "/a b",
        "/.git",
        "/a/.git",
    ],
)
def test_odd_paths_are_refused(alice: User, server: GitServer, path: str) -> None:
    with pytest.raises(AppError):
        connect.connect_repository(owner=alice, url=f"http://{server.address}{path}")
    assert server.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "http://{}/acme/app.git",
        "https://127.0.0.1/x/y",
        "https://localhost/x/y",
        "ext::sh -c x",
        "file:///etc",
        "https://user:pw@{}/x",
        "https://169.254.169.254/x",
        "git@github.com:x/y",
    ],
)
def test_private_addresses_are_refused_and_not_called(
    alice: User, server: GitServer, settings: LazySettings, url: str
) -> None:
    settings.OUTBOUND_ALLOWED = []
    with pytest.raises(UrlRefused):
        connect.connect_repository(owner=alice, url=url.format(server.address))
    assert server.seen == []


def test_address_is_checked_again_at_every_use(
    alice: User, server: GitServer, settings: LazySettings
) -> None:
    repository = connected(alice, server)
    settings.OUTBOUND_ALLOWED = []
    server.seen.clear()
    with pytest.raises(RunFailed, match="https"):
        connect.sync_repository(repository)
    assert server.seen == []


def test_name_taken_is_a_conflict_until_disconnected(alice: User, server: GitServer) -> None:
    repository = connected(alice, server)
    with pytest.raises(Conflict):
        connected(alice, server)
    connect.disconnect_repository(repository)
    assert connected(alice, server).pk != repository.pk


def test_disconnecting_forgets_the_credential(alice: User, server: GitServer) -> None:
    server.password = SECRET
    repository = connected(alice, server, secret=SECRET)
    connect.disconnect_repository(repository)
    repository.refresh_from_db()
    assert (repository.is_active, repository.sealed_credential) == (False, "")


def test_viewer_may_not_connect(victor: User, server: GitServer) -> None:
    with pytest.raises(NotAllowed):
        connected(victor, server)
    assert server.seen == []


@pytest.mark.parametrize("secret", ["a\nb", "a\x00b", "x" * 1200])
def test_odd_credentials_are_refused(alice: User, server: GitServer, secret: str) -> None:
    with pytest.raises(AppError):
        connected(alice, server, secret=secret)
    assert server.seen == []


def test_sync_makes_the_mirror_and_notes_when(alice: User, server: GitServer) -> None:
    repository = connected(alice, server)
    connect.sync_repository(repository)
    repository.refresh_from_db()
    assert repository.synced_at is not None
    assert repository.size_bytes > 0
    assert len(connect.commit_of(repository, "side")) == 40
    with pytest.raises(errors.NoSuchBranch):
        connect.commit_of(repository, "absent")


def test_sync_that_fails_says_why(alice: User, server: GitServer) -> None:
    repository = connected(alice, server)
    server.status = 503
    with pytest.raises(errors.FetchFailed):
        connect.sync_repository(repository)
    repository.refresh_from_db()
    assert repository.sync_error == "The repository could not be reached."


def test_sync_over_the_size_limit(alice: User, server: GitServer, settings: LazySettings) -> None:
    settings.REPOSITORY_MAX_BYTES = 1000
    with pytest.raises(errors.OverSize):
        connect.sync_repository(connected(alice, server))


def test_default_branch_that_is_gone_is_replaced(alice: User, server: GitServer) -> None:
    repository = connected(alice, server, default_branch="side")
    plain_git("branch", "-D", "side", cwd=server.root / "acme/app.git")
    connect.sync_repository(repository)
    assert repository.default_branch == "main"


def test_branches_are_asked_of_the_remote(alice: User, server: GitServer) -> None:
    repository = connected(alice, server)
    assert [branch.name for branch in connect.branches_of(repository)] == ["main", "side"]
    assert connect.may_have_branch(repository, "side")
    assert not connect.may_have_branch(repository, "absent")
    assert not connect.may_have_branch(repository, "--x")
    server.status = 500
    assert connect.may_have_branch(repository, "absent"), "who cannot be asked leaves it open"


def test_only_what_can_take_a_branch_can_be_pushed_to(alice: User, server: GitServer) -> None:
    assert not connect.can_push(connected(alice, server))
    server.password = SECRET
    assert connect.can_push(connected(alice, server, secret=SECRET, name="other"))


def every_git_error() -> list[type[git_errors.GitFailed]]:
    found = [value for value in vars(git_errors).values() if isinstance(value, type)]
    return [kind for kind in found if issubclass(kind, git_errors.GitFailed)]


@pytest.mark.parametrize("kind", every_git_error())
def test_every_error_of_git_is_translated(kind: type[git_errors.GitFailed]) -> None:
    failed = errors.failure(kind("Said so.", detail="/srv/secret"))
    assert isinstance(failed, RunFailed)
    assert str(failed) == "Said so."


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return make_upstream(tmp_path / "local" / "app")


def test_local_path_is_refused_unless_the_operator_allows_it(
    alice: User, local: Path, settings: LazySettings
) -> None:
    settings.LOCAL_REPOSITORIES = []
    for url in (str(local), f"{local}/", "/etc", "/", str(local / ".git")):
        with pytest.raises(errors.LocalPathRefused):
            connect.connect_repository(owner=alice, url=url)
    settings.LOCAL_REPOSITORIES = [str(local.parent)]
    repository = connect.connect_repository(owner=alice, url=str(local))
    assert (repository.kind, repository.name) == (Repository.Kind.LOCAL, "app")


def test_terminal_may_use_any_path(alice: User, local: Path) -> None:
    repository = connect.connect_repository(owner=alice, url=str(local), is_operator=True)
    connect.sync_repository(repository)
    assert connect.can_push(repository)


def test_link_out_of_an_allowed_folder_is_refused(
    alice: User, local: Path, tmp_path: Path, settings: LazySettings
) -> None:
    (tmp_path / "allowed").mkdir()
    settings.LOCAL_REPOSITORIES = [str(tmp_path / "allowed")]
    (tmp_path / "allowed/link").symlink_to(local)
    for url in (tmp_path / "allowed/link", tmp_path / "allowed/../local/app"):
        with pytest.raises(errors.LocalPathRefused):
            connect.connect_repository(owner=alice, url=str(url))


def test_path_that_leads_elsewhere_later_is_refused(
    alice: User, local: Path, settings: LazySettings
) -> None:
    settings.LOCAL_REPOSITORIES = [str(local.parent)]
    repository = connect.connect_repository(owner=alice, url=str(local))
    local.rename(local.with_name("moved"))
    local.symlink_to(local.with_name("moved"))
    with pytest.raises(errors.FetchFailed):
        connect.sync_repository(repository)


def test_folder_that_is_no_repository_is_refused(
    alice: User, tmp_path: Path, settings: LazySettings
) -> None:
    settings.LOCAL_REPOSITORIES = [str(tmp_path)]
    (tmp_path / "plain").mkdir()
    with pytest.raises(errors.RepositoryRefused):
        connect.connect_repository(owner=alice, url=str(tmp_path / "plain"))


def test_samples_of_the_platform_are_allowed(alice: User, settings: LazySettings) -> None:
    sample = make_upstream(Path(settings.VAR_DIR) / "samples" / "shop")
    repository = connect.connect_repository(owner=alice, url=str(sample))
    commit = commit_upstream(sample, {"x.txt": "x"})
    connect.sync_repository(repository)
    assert connect.commit_of(repository, "main") == commit
