"""Connecting GitHub over the API: by code, with a state where one was issued, never by e-mail."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import github as accounts_github
from accounts.errors import StateRefused
from accounts.models import AccessKey, GithubAccount, GithubState, User
from asynccoder.lib import fields
from asynccoder.tests.github_server import TOKEN, FakeGithub, Fault

CONNECT, PLAIN = "/api/auth/github/connect", "/api/v1/users/github"
PATHS = [CONNECT, PLAIN]
KEYS = "/api/v1/access-keys"


def test_seed_0s_request_connects_and_shows_githubs_own_names(
    alice: User, alice_api: APIClient, github: FakeGithub
) -> None:
    code = github.add_user(TOKEN)
    assert alice_api.get("/api/users/me").json()["data"]["isGithubConnected"] is False
    answer = alice_api.post(CONNECT, {"code": code})
    assert answer.status_code == 200
    user = {"id": 1001, "login": "octo", "name": "octo the cat"}
    assert answer.json() == {
        "success": True,
        "data": {
            "message": "GitHub account connected successfully",
            "githubUser": user | {"avatar_url": f"{github.url}/avatars/1001"},
        },
    }
    assert alice_api.get("/api/users/me").json()["data"]["isGithubConnected"] is True
    assert alice_api.get("/api/v1/users/me").json()["is_github_connected"] is True


def test_seed_1s_address_answers_in_plain(alice_api: APIClient, github: FakeGithub) -> None:
    answer = alice_api.post(PLAIN, {"code": github.add_user(TOKEN)})
    assert answer.status_code == 200
    assert answer.json()["github_user"]["avatar_url"].startswith(github.url)


def test_the_token_is_sealed_to_its_row_and_neither_shown_nor_logged(
    alice: User, alice_api: APIClient, mallory: User, github: FakeGithub, caplog: Any
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = alice_api.post(CONNECT, {"code": github.add_user(TOKEN)})
        shown = alice_api.get(PLAIN)
    account = GithubAccount.objects.get()
    assert accounts_github.token_of(account).reveal() == TOKEN
    assert TOKEN not in repr(GithubAccount.objects.values())
    assert TOKEN.encode() not in answer.content + shown.content
    assert TOKEN not in caplog.text
    account.user = mallory
    with pytest.raises(fields.SealBroken):
        accounts_github.token_of(account)


@pytest.mark.parametrize("is_verified", [True, False])
def test_no_account_is_matched_by_an_email_address(
    alice: User, mallory_api: APIClient, mallory: User, github: FakeGithub, is_verified: bool
) -> None:
    code = github.add_user(TOKEN)
    github.users[TOKEN]["email"] = alice.email
    github.emails = [{"email": alice.email, "primary": True, "verified": is_verified}]
    assert mallory_api.post(CONNECT, {"code": code}).status_code == 200
    assert GithubAccount.objects.get().user == mallory
    assert not GithubAccount.objects.filter(user=alice).exists()
    mallory.refresh_from_db()
    assert mallory.email == "mallory@example.com"
    assert github.requests("/user/emails") == []


def test_a_github_account_belongs_to_one_account_here(
    alice_api: APIClient, mallory_api: APIClient, alice: User, github: FakeGithub
) -> None:
    assert alice_api.post(CONNECT, {"code": github.add_user(TOKEN)}).status_code == 200
    other = github.add_user("another-token-of-octo")
    answer = mallory_api.post(CONNECT, {"code": other})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")
    assert GithubAccount.objects.get().user == alice


def test_connecting_again_replaces_the_token(
    alice: User, alice_api: APIClient, github: FakeGithub
) -> None:
    alice_api.post(CONNECT, {"code": github.add_user(TOKEN)})
    accounts_github.note_refusal(GithubAccount.objects.get())
    assert accounts_github.account_of(alice) is None
    code = github.add_user("second-token", user_id=1002, login="other")
    assert alice_api.post(CONNECT, {"code": code}).status_code == 200
    account = accounts_github.account_of(alice)
    assert account is not None
    assert (account.github_id, account.login) == (1002, "other")
    assert accounts_github.token_of(account).reveal() == "second-token"


def test_the_refusal_of_an_older_token_does_not_end_a_newer_one(
    alice: User, alice_api: APIClient, github: FakeGithub
) -> None:
    alice_api.post(CONNECT, {"code": github.add_user(TOKEN)})
    stale = GithubAccount.objects.get()
    alice_api.post(CONNECT, {"code": github.add_user("second-token")})
    accounts_github.note_refusal(stale)
    assert accounts_github.account_of(alice) is not None


def test_a_state_of_ours_binds_the_code_and_is_used_once(
    alice_api: APIClient, github: FakeGithub
) -> None:
    began = alice_api.get(PLAIN).json()
    assert began["is_connected"] is False
    assert began["state"] in began["authorize_url"]
    code = github.add_user(TOKEN)
    github.agree(began["authorize_url"], code)
    # Without the state there is no proof of the key that was sent with it.
    refused = alice_api.post(CONNECT, {"code": code})
    assert refused.status_code == 400
    answer = alice_api.post(CONNECT, {"code": code, "state": began["state"]})
    assert answer.status_code == 200
    again = alice_api.post(CONNECT, {"code": github.add_user(TOKEN), "state": began["state"]})
    assert again.status_code == 400
    shown = alice_api.get(PLAIN).json()
    assert (shown["is_connected"], shown["github_user"]["login"]) == (True, "octo")


def test_a_state_is_good_for_its_user_and_ten_minutes(
    alice_api: APIClient, mallory_api: APIClient, github: FakeGithub
) -> None:
    state = alice_api.get(PLAIN).json()["state"]
    code = github.add_user(TOKEN)
    for given in (state, "made-up", state[:-1], f"{state}x"):
        answer = mallory_api.post(CONNECT, {"code": code, "state": given})
        assert answer.status_code == 400
    assert github.requests("access_token") == []
    GithubState.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert alice_api.post(CONNECT, {"code": code, "state": state}).status_code == 400
    fresh = alice_api.get(PLAIN).json()["state"]
    assert GithubState.objects.count() == 1, "what ran out is forgotten"
    assert alice_api.post(CONNECT, {"code": code, "state": fresh}).status_code == 200


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_twenty_who_use_one_state_one_wins(alice: User, github: FakeGithub) -> None:
    _, state = accounts_github.begin(alice)
    outcomes: list[str] = []
    start = threading.Barrier(20)

    def use() -> None:
        start.wait()
        try:
            accounts_github._use_state(alice, state)
            outcomes.append("won")
        except StateRefused:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 19 + ["won"]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_settings_it_says_which_are_missing(
    path: str, alice_api: APIClient, settings: LazySettings
) -> None:
    settings.GITHUB_CLIENT_SECRET = ""
    answer = alice_api.post(path, {"code": "x"})
    assert answer.status_code == 503
    for name in ("GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET", "SERVICE_UNAVAILABLE"):
        assert name in answer.content.decode()
    assert alice_api.get(PLAIN).status_code == 503


FAULTS = [
    (Fault("access_token", status=500), 503),
    (Fault("access_token", status=429, headers={"Retry-After": "7"}), 503),
    (Fault("access_token", status=200, body=b"<html>"), 503),
    (Fault("access_token", status=200, body=b"[]"), 503),
    (Fault("access_token", status=200, body=b"{}"), 503),
    (Fault("access_token", status=200, body=b'{"access_token": 5}'), 503),
    (Fault("access_token", status=200, body=b'{"error": "bad_verification_code"}'), 400),
    (Fault("access_token", status=200, body=b'{"error": "incorrect_client_credentials"}'), 503),
    (Fault("access_token", reset=True), 503),
    (Fault("access_token", hang=threading.Event()), 503),
    (Fault("GET .*/user$", status=401, body=b'{"message": "Bad credentials"}'), 503),
    (Fault("GET .*/user$", status=502), 503),
    (Fault("GET .*/user$", status=200, body=b'{"id": true, "login": "x"}'), 503),
    (Fault("GET .*/user$", status=200, body=b'{"id": 99999999999999999999, "login": "x"}'), 503),
    (Fault("GET .*/user$", status=200, body=b'{"id": 5, "login": "a\\nb"}'), 503),
    (Fault("GET .*/user$", status=200, body=b"[]"), 503),
]


@pytest.mark.parametrize(("fault", "status"), FAULTS)
def test_every_failure_of_github_is_told_and_connects_nothing(
    fault: Fault, status: int, alice_api: APIClient, github: FakeGithub, settings: LazySettings
) -> None:
    settings.GITHUB_TIMEOUT_SECONDS = 1
    github.faults = [fault]
    answer = alice_api.post(CONNECT, {"code": github.add_user(TOKEN)})
    assert answer.status_code == status, answer.content
    assert TOKEN not in answer.content.decode()
    assert not GithubAccount.objects.exists()


@pytest.mark.parametrize("body", [{}, {"code": ""}, {"code": ["x"]}, {"code": "x" * 201}])
def test_a_body_without_a_code_is_refused(
    body: dict[str, Any], alice_api: APIClient, github: FakeGithub
) -> None:
    assert alice_api.post(CONNECT, body).status_code == 400
    assert alice_api.post(CONNECT, {"code": "unknown"}).status_code == 400


def test_disconnecting_forgets_the_token(
    alice_api: APIClient, mallory_api: APIClient, github: FakeGithub
) -> None:
    alice_api.post(CONNECT, {"code": github.add_user(TOKEN)})
    assert mallory_api.delete(PLAIN).status_code == 409
    assert GithubAccount.objects.count() == 1
    answer = alice_api.delete(PLAIN)
    assert (answer.status_code, answer.json()["is_revoked"]) == (200, True)
    assert not GithubAccount.objects.exists()
    assert alice_api.delete(PLAIN).status_code == 409


def test_disconnecting_revokes_the_grant_with_every_token(
    alice_api: APIClient, github: FakeGithub
) -> None:
    alice_api.post(CONNECT, {"code": github.add_user("older-token")})
    alice_api.post(CONNECT, {"code": github.add_user(TOKEN)})
    alice_api.delete(PLAIN)
    assert github.users == {}
    [asked] = github.requests("DELETE")
    assert asked.path.endswith(f"/applications/{github.client_id}/grant")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("DELETE", status=404),
        Fault("DELETE", status=500),
        Fault("DELETE", status=200, body=b"{}"),
        Fault("DELETE", status=307, headers={"Location": "http://127.0.0.1:9/"}),
        Fault("DELETE", reset=True),
        Fault("DELETE", hang=threading.Event()),
    ],
)
def test_whatever_github_does_the_token_is_not_kept(
    fault: Fault, alice_api: APIClient, github: FakeGithub, settings: LazySettings, caplog: Any
) -> None:
    settings.GITHUB_TIMEOUT_SECONDS = 1
    alice_api.post(CONNECT, {"code": github.add_user(TOKEN)})
    github.faults = [fault]
    answer = alice_api.delete(PLAIN)
    assert (answer.status_code, answer.json()["is_revoked"]) == (200, False)
    assert f"{github.url}/settings/applications" in answer.json()["message"]
    assert not GithubAccount.objects.exists()
    assert "not revoked" in caplog.text
    assert TOKEN not in caplog.text


def test_a_token_that_does_not_open_is_forgotten_all_the_same(
    alice_api: APIClient, github: FakeGithub
) -> None:
    alice_api.post(CONNECT, {"code": github.add_user(TOKEN)})
    GithubAccount.objects.update(sealed_token="v1:gone:AAAA")
    answer = alice_api.delete(PLAIN)
    assert (answer.status_code, answer.json()["is_revoked"]) == (200, False)
    assert (github.requests("DELETE"), GithubAccount.objects.count()) == ([], 0)


@pytest.mark.parametrize("path", PATHS)
def test_a_viewer_and_nobody_connect_nothing(
    path: str, victor_api: APIClient, api: APIClient, github: FakeGithub
) -> None:
    code = github.add_user(TOKEN)
    for client, status in ((victor_api, 403), (api, 401)):
        assert client.post(path, {"code": code}).status_code == status
        assert client.get(PLAIN).status_code == status
        assert client.delete(PLAIN).status_code == status
    assert github.seen == []


@pytest.mark.parametrize("scopes", [[], ["task:read"]])
def test_no_access_key_connects_looks_or_disconnects(
    alice_api: APIClient, api: APIClient, github: FakeGithub, scopes: list[str]
) -> None:
    assert alice_api.post(CONNECT, {"code": github.add_user(TOKEN)}).status_code == 200
    key = alice_api.post(KEYS, {"name": "ci", "scopes": scopes}).json()["key"]
    assert AccessKey.objects.count() == 1
    api.credentials(HTTP_X_API_KEY=key)
    for path in PATHS:
        assert api.post(path, {"code": github.add_user(TOKEN)}).status_code == 403
    assert (api.get(PLAIN).status_code, api.delete(PLAIN).status_code) == (403, 403)
    assert GithubAccount.objects.count() == 1
