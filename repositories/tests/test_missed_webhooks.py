"""A pull request that was merged or closed elsewhere shows so, though no webhook told it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import GithubAccount, User
from asynccoder.tests.github_server import FakeGithub, Fault
from repositories import missed, pull_requests
from repositories.forges.github import NewPull
from repositories.models import PullRequest, Repository
from repositories.tests.github_server import connect_account
from repositories.tests.rows import make_repository

ONE = r"GET .*/pulls/\d+$"
LIMITED = b'{"message": "API rate limit exceeded for user ID 1001."}'
rung: list[str] = []


def note_ring() -> None:
    rung.append("rung")


@pytest.fixture(autouse=True)
def _rings(settings: LazySettings) -> None:
    rung.clear()
    here = "repositories.tests.test_missed_webhooks.note_ring"
    settings.UPCALLS = settings.UPCALLS | {"pull_requests_due": here}


@pytest.fixture
def repository(alice: User, github: FakeGithub) -> Repository:
    connect_account(alice, github)
    github.add_repository("octo/app")
    return make_repository(alice, kind="github", url=f"{github.url}/octo/app.git")


def opened(repository: Repository, count: int = 1) -> list[PullRequest]:
    """Open pull requests, as tasks do; GitHub is to be asked about them."""
    made = [
        pull_requests.open_once(
            repository,
            NewPull(f"asynccoder/{number}", "main", f"Fix {number}", "Why."),
            check=lambda: None,
        )
        for number in range(count)
    ]
    PullRequest.objects.update(check_after=timezone.now() - timedelta(seconds=1))
    return made


def ended(github: FakeGithub, number: int, **values: Any) -> None:
    """Somebody ends it on GitHub, and no webhook comes."""
    pull = github.pulls["octo/app"][number - 1]
    pull.update(state="closed", updated_at="2026-02-01T00:00:00Z", **values)


def state_of(pull: PullRequest) -> str:
    pull.refresh_from_db()
    return pull.state


def test_what_was_ended_elsewhere_is_taken_over(repository: Repository, github: FakeGithub) -> None:
    merged, closed, still = opened(repository, 3)
    ended(github, 1, merged=True, title="Fix it \0 well")
    ended(github, 2)
    assert missed.catch_up() == missed.Caught(asked=3, changed=2)
    assert [state_of(one) for one in (merged, closed, still)] == ["merged", "closed", "open"]
    assert merged.title == "Fix it \ufffd well"
    assert missed.catch_up() == missed.Caught(), "about once an hour"
    assert len(github.requests(ONE)) == 3


def test_one_that_was_just_opened_is_not_asked_about(
    repository: Repository, github: FakeGithub
) -> None:
    pull_requests.open_once(repository, NewPull("a", "main", "A", "B"), check=lambda: None)
    missed.ring_due()
    assert (rung, missed.catch_up()) == ([], missed.Caught())


def test_it_is_rung_for_once_it_is_due(repository: Repository, github: FakeGithub) -> None:
    opened(repository)
    missed.ring_due()
    assert rung == ["rung"]
    missed.catch_up()
    missed.ring_due()
    assert rung == ["rung"]


def test_an_older_answer_changes_nothing(repository: Repository, github: FakeGithub) -> None:
    [pull] = opened(repository)
    later = timezone.now() + timedelta(days=1)
    PullRequest.objects.update(title="Newer", described_at=later)
    ended(github, 1)
    assert missed.catch_up() == missed.Caught(asked=1, changed=0)
    assert (state_of(pull), pull.title) == ("open", "Newer")


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_rate_limit_is_waited_for(
    status: int, is_told: bool, repository: Repository, github: FakeGithub
) -> None:
    pulls = opened(repository, 3)
    ended(github, 3)
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 1800)}
    headers = {"Retry-After": "1800"} if is_told else reset
    github.faults = [Fault(ONE, status=status, body=LIMITED, headers=headers)]
    now = timezone.now()
    assert missed.catch_up() == missed.Caught()
    assert len(github.requests(ONE)) == 1, "no second request once GitHub takes no more"
    for pull in pulls:
        pull.refresh_from_db()
        assert timedelta(minutes=20) < pull.check_after - now < timedelta(minutes=40)
    github.faults = []
    PullRequest.objects.update(check_after=now)
    missed.catch_up()
    assert state_of(pulls[2]) == "closed"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(ONE, status=500),
        Fault(ONE, status=200, body=b"{}"),
        Fault(ONE, status=301, headers={"Location": "https://elsewhere.example/"}),
        Fault(ONE, reset=True),
        Fault(ONE, hang=threading.Event()),
    ],
)
def test_a_github_that_is_away_is_asked_again_soon(
    fault: Fault, repository: Repository, github: FakeGithub, settings: LazySettings
) -> None:
    settings.GITHUB_TIMEOUT_SECONDS = 1
    [pull, _] = opened(repository, 2)
    github.faults = [fault]
    before = timezone.now()
    assert missed.catch_up() == missed.Caught()
    assert (state_of(pull), len(github.requests(ONE))) == ("open", 1)
    assert pull.check_after - before < timedelta(minutes=20)


def test_one_that_is_not_shown_keeps_no_other_back(
    repository: Repository, github: FakeGithub
) -> None:
    first, second = opened(repository, 2)
    github.faults = [Fault("pulls/1$", status=404, body=b'{"message": "Not Found"}')]
    ended(github, 2)
    assert missed.catch_up() == missed.Caught(asked=2, changed=1)
    assert (state_of(first), state_of(second)) == ("open", "closed")


@pytest.mark.parametrize("loss", ["no account", "refused", "sealed", "disconnected"])
def test_without_an_account_nothing_is_asked_in_a_circle(
    loss: str, repository: Repository, github: FakeGithub
) -> None:
    opened(repository)
    ended(github, 1)
    if loss == "no account":
        GithubAccount.objects.all().delete()
    elif loss == "refused":
        github.users.clear()
    elif loss == "sealed":
        GithubAccount.objects.update(sealed_token="v1:gone:AAAA")
    else:
        Repository.objects.update(is_active=False)
    assert missed.catch_up() == missed.Caught()
    missed.ring_due()
    assert rung == []


def test_a_pass_has_its_end_and_its_most(
    repository: Repository, github: FakeGithub, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(repository, 3)
    monkeypatch.setattr(missed, "PASS_SECONDS", -1.0)
    assert missed.catch_up() == missed.Caught()
    monkeypatch.setattr(missed, "PASS_SECONDS", 60.0)
    monkeypatch.setattr(missed, "MOST", 2)
    assert [missed.catch_up().asked, missed.catch_up().asked] == [2, 1]


def test_the_command_asks_about_all_of_them_now(
    repository: Repository, github: FakeGithub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missed, "MOST", 1)
    pulls = opened(repository, 2)
    PullRequest.objects.update(check_after=timezone.now() + timedelta(hours=1))
    ended(github, 2, merged=True)
    out = StringIO()
    call_command("reconcile", stdout=out)
    assert out.getvalue() == "2 pull requests asked about, 1 changed.\n"
    assert state_of(pulls[1]) == "merged"


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_workers_at_one_time_one_asks(repository: Repository, github: FakeGithub) -> None:
    opened(repository, 4)
    start = threading.Barrier(4)

    def run(_: int) -> int:
        try:
            start.wait()
            return missed.catch_up().asked
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(run, range(4))) == 4
    assert len(github.requests(ONE)) == 4
