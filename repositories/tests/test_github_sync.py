"""Repositories follow what the user's GitHub account reaches: all pages, no row twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts import github as accounts_github
from accounts.models import GithubAccount, User
from asynccoder.tests.github_server import TOKEN, FakeGithub, Fault
from repositories import connect, sync
from repositories.models import Repository
from repositories.tests.github_server import connect_account
from repositories.tests.rows import make_repository

SYNC, PLAIN = "/api/repositories/sync", "/api/v1/repositories/sync"
LIST = "/api/v1/repositories"


def counts(answer: Any) -> tuple[int, int, int]:
    assert answer.status_code == 200, answer.content
    data = answer.json()["data"]
    return data["synced"], data["added"], data["updated"]


def names(client: APIClient, query: str = "") -> list[str]:
    return [row["full_name"] for row in client.get(f"{LIST}{query}").json()["repositories"]]


def test_all_pages_are_added_once(alice: User, alice_api: APIClient, github: FakeGithub) -> None:
    connect_account(alice, github)
    for number in range(250):
        github.add_repository(f"octo/app-{number:03}", private=number % 2 == 0)
    answer = alice_api.post(SYNC, {"force": False})
    assert counts(answer) == (250, 250, 0)
    assert answer.json()["data"]["message"] == "Repositories synced successfully"
    assert [one.query.get("page", "1") for one in github.requests("/user/repos")] == ["1", "2", "3"]
    assert counts(alice_api.post(SYNC, {})) == (250, 0, 0)
    row = Repository.objects.get(full_name="octo/app-007")
    assert (row.github_id, row.language, row.is_private) == (5007, "Python", False)
    assert row.url == f"{github.url}/octo/app-007.git"
    shown = alice_api.get(f"{LIST}/{row.pk}").json()
    assert (shown["connected"], shown["github_id"], shown["url"]) == (
        True,
        5007,
        f"{github.url}/octo/app-007",
    )


def test_what_changed_at_github_changes_here(
    alice: User, alice_api: APIClient, github: FakeGithub
) -> None:
    connect_account(alice, github)
    one, two = github.add_repository("octo/one"), github.add_repository("octo/two")
    github.add_repository("octo/same")
    alice_api.post(SYNC, {})
    mine = Repository.objects.get(full_name="octo/one")
    Repository.objects.filter(pk=mine.pk).update(setup_command="make")
    # They change names, which the database must not refuse in between.
    one["full_name"], two["full_name"] = "octo/two", "octo/one"
    one["description"], one["default_branch"] = "It is \0 new", "trunk"
    assert counts(alice_api.post(SYNC, {})) == (3, 0, 2)
    mine.refresh_from_db()
    assert (mine.full_name, mine.name, mine.default_branch) == ("octo/two", "two", "trunk")
    assert (mine.description, mine.setup_command) == ("It is \ufffd new", "make")


def test_many_that_changed_cost_few_queries(
    alice: User, github: FakeGithub, django_assert_max_num_queries: Any
) -> None:
    connect_account(alice, github)
    rows = [github.add_repository(f"octo/app-{number}") for number in range(40)]
    sync.sync_from_github(alice)
    for number, row in enumerate(rows):
        row["full_name"] = f"octo/app-{(number + 1) % 40}"
    with django_assert_max_num_queries(12):
        assert sync.sync_from_github(alice).updated == 40


def test_what_github_shows_no_more_is_kept_and_not_connected(
    alice: User, alice_api: APIClient, github: FakeGithub
) -> None:
    connect_account(alice, github)
    github.add_repository("octo/kept")
    gone = github.add_repository("octo/gone")
    make_repository(alice, name="plain")
    alice_api.post(SYNC, {})
    github.repositories.remove(gone)
    assert counts(alice_api.post(SYNC, {})) == (1, 0, 0)
    assert names(alice_api, "?connected=true") == ["octo/kept"]
    assert names(alice_api, "?connected=false") == ["acme/plain", "octo/gone"]
    assert names(alice_api, "?connected=false&search=gone") == ["octo/gone"]
    assert alice_api.get(f"{LIST}?connected=perhaps").status_code == 400
    # It was made anew under its name: another repository to GitHub, the same row here.
    github.add_repository("octo/gone", id=777)
    assert counts(alice_api.post(SYNC, {})) == (2, 0, 1)
    assert Repository.objects.get(full_name="octo/gone").github_id == 777


def test_one_that_was_connected_by_its_address_is_taken_over(
    alice: User, alice_api: APIClient, github: FakeGithub
) -> None:
    connect_account(alice, github)
    row = github.add_repository("octo/app")
    github.add_repository("octo/taken")
    mine = make_repository(alice, name="mine", kind="github", url=f"{github.url}/Octo/App")
    make_repository(alice, name="taken", full_name="octo/taken")
    answer = alice_api.post(SYNC, {})
    assert counts(answer) == (1, 0, 1)
    assert "1 left out" in answer.json()["data"]["message"]
    mine.refresh_from_db()
    assert (mine.github_id, mine.full_name) == (row["id"], "octo/app")


def test_what_was_disconnected_here_comes_back_by_force_only(
    alice: User, alice_api: APIClient, github: FakeGithub
) -> None:
    connect_account(alice, github)
    github.add_repository("octo/app")
    alice_api.post(SYNC, {})
    connect.disconnect_repository(Repository.objects.get())
    assert counts(alice_api.post(SYNC, {})) == (0, 0, 0)
    assert names(alice_api) == []
    assert counts(alice_api.post(SYNC, {"force": True})) == (1, 0, 1)
    assert names(alice_api) == ["octo/app"]
    assert Repository.objects.count() == 1


def test_an_account_with_too_many_is_cut_and_told(
    alice: User, alice_api: APIClient, github: FakeGithub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "MOST", 3)
    connect_account(alice, github)
    for name in "abcde":
        github.add_repository(f"octo/{name}")
    answer = alice_api.post(SYNC, {})
    assert counts(answer) == (3, 3, 0)
    assert "more than 3" in answer.json()["data"]["message"]


def test_no_two_users_share_a_row(
    alice: User, alice_api: APIClient, mallory: User, mallory_api: APIClient, github: FakeGithub
) -> None:
    connect_account(alice, github)
    connect_account(mallory, github, "token-of-mallory", user_id=1002)
    github.add_repository("octo/app")
    assert counts(alice_api.post(SYNC, {})) == (1, 1, 0)
    assert counts(mallory_api.post(SYNC, {})) == (1, 1, 0)
    assert names(mallory_api) == ["octo/app"]
    assert Repository.objects.count() == 2


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_syncs_at_one_time_add_each_repository_once(alice: User, github: FakeGithub) -> None:
    connect_account(alice, github)
    for number in range(20):
        github.add_repository(f"octo/app-{number}")
    done: list[sync.Synced] = []

    def run() -> None:
        try:
            done.append(sync.sync_from_github(User.objects.get(pk=alice.pk)))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6
    assert sum(one.added for one in done) == 20
    assert Repository.objects.count() == 20


def test_a_revoked_token_is_remembered_and_told(
    alice: User, alice_api: APIClient, github: FakeGithub
) -> None:
    connect_account(alice, github)
    github.add_repository("octo/app")
    alice_api.post(SYNC, {})
    assert names(alice_api, "?connected=true") == ["octo/app"]
    del github.users[TOKEN]
    for _ in range(2):
        answer = alice_api.post(SYNC, {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")
        assert "Connect GitHub again" in answer.json()["error"]["message"]
    assert accounts_github.account_of(alice) is None
    assert names(alice_api, "?connected=true") == []
    assert alice_api.get("/api/users/me").json()["data"]["isGithubConnected"] is False
    assert len(github.requests("/user/repos")) == 2, "a refused token is not tried again"


def test_without_an_account_it_says_to_connect_one(alice_api: APIClient) -> None:
    answer = alice_api.post(SYNC, {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")
    assert "Connect your GitHub account" in answer.json()["error"]["message"]


LIMITED = b'{"message": "API rate limit exceeded for user ID 1001."}'
FAULTS = [
    (Fault("repos", status=500), 503),
    (Fault("repos", status=429, headers={"Retry-After": "7"}), 503),
    (Fault("repos", status=403, body=LIMITED), 503),
    (Fault("repos", status=403, body=b"{}", headers={"Retry-After": "9" * 9}), 503),
    (Fault("repos", status=403, body=b'{"message": "Forbidden"}'), 400),
    (Fault("repos", status=404, body=b'{"message": "Not Found"}'), 400),
    (Fault("repos", status=422, body=b'{"message": "a\\nb"}'), 400),
    (Fault("repos", status=200, body=b"<html>"), 503),
    (Fault("repos", status=200, body=b"{"), 503),
    (Fault("repos", status=200, body=b'[{"id": "x"}]'), 503),
    (Fault("repos", status=200, body=b'[{"id": -5, "full_name": "a/b"}]'), 503),
    (Fault("repos", status=200, body=b"[5]"), 503),
    (Fault("repos", status=302, headers={"Location": "http://169.254.169.254/"}), 503),
    (Fault("repos", reset=True), 503),
    (Fault("repos", hang=threading.Event()), 503),
]


@pytest.mark.parametrize(("fault", "status"), FAULTS)
def test_every_failure_of_github_is_told_and_changes_nothing(
    fault: Fault,
    status: int,
    alice: User,
    alice_api: APIClient,
    github: FakeGithub,
    settings: LazySettings,
) -> None:
    settings.GITHUB_TIMEOUT_SECONDS = 1
    connect_account(alice, github)
    github.faults = [fault]
    answer = alice_api.post(SYNC, {})
    assert answer.status_code == status, answer.content
    assert TOKEN not in answer.content.decode()
    assert GithubAccount.objects.get().refused_at is None
    assert not Repository.objects.exists()
    if fault.headers.get("Retry-After") == "7":
        assert answer["Retry-After"] == "7"


@pytest.mark.parametrize("path", [SYNC, PLAIN])
def test_a_viewer_and_nobody_sync_nothing(
    path: str, victor_api: APIClient, victor: User, api: APIClient, github: FakeGithub
) -> None:
    connect_account(victor, github)
    assert victor_api.post(path, {}).status_code == 403
    assert api.post(path, {}).status_code == 401
    assert github.seen == []


def test_the_page_syncs_and_says_what_came(
    page: Client, alice: User, victor: User, github: FakeGithub
) -> None:
    connect_account(alice, github)
    github.add_repository("octo/app")
    page.force_login(alice)
    assert "Sync repositories" in page.get("/repositories/").content.decode()
    shown = page.post("/repositories/sync/", follow=True).content.decode()
    assert "Repositories synced successfully: 1 new, 0 changed." in shown
    assert "octo/app" in shown
    del github.users[TOKEN]
    shown = page.post("/repositories/sync/", follow=True).content.decode()
    assert "Connect GitHub again" in shown
    page.force_login(victor)
    assert page.post("/repositories/sync/").status_code == 403
