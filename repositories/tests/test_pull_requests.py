"""A branch has one pull request, whatever GitHub answers and whoever dies meanwhile."""

from __future__ import annotations

import threading

import pytest
from django.conf import LazySettings
from django.db import connection

from accounts.errors import GithubAway, GithubUnconnected
from accounts.models import GithubAccount, User
from asynccoder.tests.github_server import TOKEN, FakeGithub, Fault
from repositories import pull_requests
from repositories.errors import GithubMissing, GithubRefused, GithubTokenRefused
from repositories.forges.github import NewPull
from repositories.models import PullRequest, Repository
from repositories.tests.github_server import connect_account
from repositories.tests.rows import make_repository

NEW = NewPull(head="asynccoder/1234-fix", base="main", title="Fix it", body="Why and how.")
POST = "POST .*/pulls$"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_requests, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(pull_requests, "LONGEST_PAUSE", 0.0)


@pytest.fixture
def repository(alice: User, github: FakeGithub) -> Repository:
    connect_account(alice, github)
    github.add_repository("octo/app")
    return make_repository(alice, name="mine", kind="github", url=f"{github.url}/octo/app.git")


def may_act() -> None:
    """The caller's lease is held."""


def opened(github: FakeGithub) -> int:
    return len(github.pulls.get("octo/app", []))


def test_it_is_opened_from_the_branch_and_kept(repository: Repository, github: FakeGithub) -> None:
    made = pull_requests.open_once(repository, NEW, check=may_act)
    assert (made.number, made.url) == (1, f"{github.url}/octo/app/pull/1")
    assert (made.state, made.head_branch, made.base_branch) == ("open", NEW.head, "main")
    there = github.pulls["octo/app"][0]
    assert (there["title"], there["body"]) == ("Fix it", "Why and how.")
    calls = len(github.seen)
    assert pull_requests.open_once(repository, NEW, check=may_act) == made
    assert len(github.seen) == calls, "what is stored needs no asking"


def test_one_that_is_there_is_adopted(repository: Repository, github: FakeGithub) -> None:
    first = pull_requests.open_once(repository, NEW, check=may_act)
    github.pulls["octo/app"][0] |= {"state": "closed", "merged_at": "2026-01-02T00:00:00Z"}
    first.delete()
    again = pull_requests.open_once(repository, NEW, check=may_act)
    assert (again.number, again.state, opened(github)) == (1, "merged", 1)
    other = NewPull("asynccoder/5678-other", "main", "Other", "")
    assert pull_requests.open_once(repository, other, check=may_act).number == 2


def test_whoever_may_not_act_any_more_opens_nothing(
    repository: Repository, github: FakeGithub
) -> None:
    def refuse() -> None:
        raise RuntimeError("the lease is lost")

    with pytest.raises(RuntimeError):
        pull_requests.open_once(repository, NEW, check=refuse)
    assert (opened(github), PullRequest.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(POST, status=500, after=True, times=1),
        Fault(POST, status=502, times=2),
        Fault(POST, status=429, headers={"Retry-After": "5"}, times=1),
        Fault(POST, reset=True, after=True, times=1),
        Fault(POST, status=201, body=b"{", after=True, times=1),
        Fault(POST, hang=threading.Event(), after=True, times=1),
        Fault("GET .*/pulls$", status=503, times=3),
        # It was opened in the very moment between our look and our asking.
        Fault(POST, status=422, body=b'{"message": "Validation Failed"}', after=True, times=1),
    ],
)
def test_a_fault_that_passes_leaves_one(
    fault: Fault, repository: Repository, github: FakeGithub, settings: LazySettings
) -> None:
    settings.GITHUB_TIMEOUT_SECONDS = 1
    github.faults = [fault]
    assert pull_requests.open_once(repository, NEW, check=may_act).number == 1
    assert (opened(github), PullRequest.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(POST, status=500), GithubAway),
        (Fault(POST, status=422, body=b'{"message": "No commits"}'), GithubRefused),
        (Fault("pulls", status=403, body=b'{"message": "Forbidden"}'), GithubRefused),
        (Fault("pulls", status=404, body=b'{"message": "Not Found"}'), GithubMissing),
        (Fault("GET .*/pulls$", status=200, body=b'[{"number": 1}]'), GithubAway),
        (Fault("GET .*/pulls$", status=200, body=b"{}"), GithubAway),
    ],
)
def test_a_fault_that_stays_is_told_after_a_bounded_number_of_tries(
    fault: Fault, error: type[Exception], repository: Repository, github: FakeGithub
) -> None:
    github.faults = [fault]
    with pytest.raises(error):
        pull_requests.open_once(repository, NEW, check=may_act)
    assert len(github.requests("/pulls")) <= 8
    assert (opened(github), PullRequest.objects.count()) == (0, 0)


def test_a_revoked_token_is_remembered(repository: Repository, github: FakeGithub) -> None:
    assert pull_requests.are_taken(repository)
    del github.users[TOKEN]
    with pytest.raises(GithubTokenRefused):
        pull_requests.open_once(repository, NEW, check=may_act)
    assert GithubAccount.objects.get().refused_at is not None
    assert not pull_requests.are_taken(repository)
    with pytest.raises(GithubUnconnected):
        pull_requests.open_once(repository, NEW, check=may_act)


def test_what_a_model_wrote_calls_nobody_and_fits(
    repository: Repository, github: FakeGithub
) -> None:
    loud = NewPull(
        NEW.head, "main", "By\n@octocat " + "x" * 300, "\0 a@b.c @team/all" + "y" * 30_000
    )
    made = pull_requests.open_once(repository, loud, check=may_act)
    there = github.pulls["octo/app"][0]
    assert there["title"].startswith("By @\u2060octocat")
    assert "@octocat" not in there["title"]
    assert "@team" not in there["body"]
    assert len(there["title"]) <= 256
    assert len(there["body"]) < 30_000
    assert len(made.title) <= 300


@pytest.mark.parametrize("kind", ["git", "local", "hosted"])
def test_only_githubs_repositories_take_pull_requests(
    kind: str, repository: Repository, github: FakeGithub
) -> None:
    assert pull_requests.are_taken(repository)
    repository.kind = kind
    assert not pull_requests.are_taken(repository)
    repository.kind, repository.url = "github", "https://github.com.evil.example/octo/app"
    assert not pull_requests.are_taken(repository)


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_two_at_one_time_share_one(repository: Repository, github: FakeGithub) -> None:
    numbers: list[int] = []
    start = threading.Barrier(4)

    def run() -> None:
        try:
            start.wait()
            mine = Repository.objects.get(pk=repository.pk)
            numbers.append(pull_requests.open_once(mine, NEW, check=may_act).number)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers == [1, 1, 1, 1]
    assert (opened(github), PullRequest.objects.count()) == (1, 1)
