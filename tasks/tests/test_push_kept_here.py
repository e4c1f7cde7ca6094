"""A finished task stays finished when its branch cannot be pushed: the result is kept, and says why."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.models import GithubAccount, User
from asynccoder.lib import outbound
from asynccoder.tests.github_server import TOKEN, FakeGithub, Fault
from repositories import connect, git, pull_requests
from repositories.models import Repository
from repositories.tests.github_server import connect_account, serve_git
from tasks import handback
from tasks.models import Status, Step
from tasks.tests.test_run_in_process import run

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]


@pytest.fixture
def repository(alice: User, github: FakeGithub, tmp_path: Path) -> Repository:
    connect_account(alice, github)
    serve_git(github, tmp_path, "octo/app")
    return connect.connect_repository(owner=alice, url=f"{github.url}/octo/app.git")


@pytest.fixture
def before_push(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something happen when the work is done and its push begins."""
    push = handback._push

    def arrange(happen: Callable[[], None]) -> None:
        def pushed(*arguments: Any) -> str:
            happen()
            return push(*arguments)

        monkeypatch.setattr(handback, "_push", pushed)

    return arrange


def assert_kept(task: Any, reason: str) -> None:
    assert (task.status, task.outcome, task.error_message) == (Status.COMPLETED, "done", "")
    assert (task.is_pushed, bool(task.result_branch), bool(task.result.diff)) == (False, True, True)
    said = task.steps.get(kind=Step.Kind.PLATFORM, name="push").outcome
    assert said.startswith("Kept here: ")
    assert reason in said


def test_a_name_that_is_not_resolved_any_more(
    alice: User, repository: Repository, before_push: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unresolved(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    before_push(lambda: monkeypatch.setattr(outbound, "resolved", unresolved))
    assert_kept(run(alice, type="documentation", repository=repository), "has no address")


def test_an_address_that_is_refused_meanwhile(
    alice: User, repository: Repository, before_push: Any, settings: Any
) -> None:
    connect._seal(repository, git.Credential("bot", TOKEN))
    repository.save()
    elsewhere = "https://github.example"
    before_push(lambda: setattr(settings, "GITHUB_URL", elsewhere))
    task = run(alice, type="documentation", repository=repository)
    assert_kept(task, "Only https addresses may be used.")


@pytest.mark.parametrize("kept_in", [GithubAccount, Repository])
def test_a_credential_that_does_not_open(
    kept_in: Any, alice: User, repository: Repository, before_push: Any
) -> None:
    """As after an operator took its key out of FIELD_ENCRYPTION_KEYS."""
    if kept_in is Repository:
        connect._seal(repository, git.Credential("bot", TOKEN))
        repository.save()
    name = "sealed_credential" if kept_in is Repository else "sealed_token"
    before_push(lambda: kept_in.objects.update(**{name: "v1:gone:AAAA"}))
    assert_kept(run(alice, type="documentation", repository=repository), "cannot be opened")


@pytest.mark.parametrize(
    "to", ["https://elsewhere.example/", "{api}/repos/octo/app/pulls", "{api}/round/"]
)
def test_a_redirect_of_githubs_costs_the_pull_request_alone(
    to: str,
    alice: User,
    repository: Repository,
    github: FakeGithub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pull_requests, "PAUSES", ())
    location = to.format(api=github.api)
    body = b'{"message": "Moved Permanently"}'
    github.faults = [
        Fault("pulls", status=301, body=body, headers={"Location": location}),
        Fault("round/$", status=301, body=body, headers={"Location": f"{github.api}/round"}),
        Fault("round$", status=301, body=body, headers={"Location": f"{github.api}/round/"}),
    ]
    task = run(alice, type="documentation", repository=repository)
    assert (task.status, task.outcome, task.is_pushed) == (Status.COMPLETED, "done", True)
    assert "no pull request was opened" in task.result.data["pull_request_note"]


def test_a_token_that_does_not_open_costs_the_pull_request_alone(
    alice: User, repository: Repository, github: FakeGithub, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect._seal(repository, git.Credential("bot", TOKEN))
    repository.save()
    GithubAccount.objects.update(sealed_token="v1:gone:AAAA")
    task = run(alice, type="documentation", repository=repository)
    assert (task.status, task.is_pushed) == (Status.COMPLETED, True)
    assert "cannot be opened" in task.result.data["pull_request_note"]
