from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts import tokens
from accounts.models import User

ME = "/api/users/me"


@pytest.fixture
def browser(alice: User) -> Client:
    """A browser that is signed in on the pages and has the CSRF cookie."""
    browser = Client(enforce_csrf_checks=True)
    page = browser.get("/sign-in/")
    form = {"identity": "alice", "password": "correct horse battery"}
    form["csrfmiddlewaretoken"] = page.cookies["csrftoken"].value
    assert browser.post("/sign-in/", form).status_code == 302
    return browser


def put(browser: Client, **headers: str) -> Any:
    body = {"displayName": "New"}
    return browser.put(ME, body, content_type="application/json", headers=headers)


def test_the_session_of_the_pages_reads_the_api(browser: Client) -> None:
    assert "async_coder_session" in browser.cookies
    assert browser.get(ME).json()["data"]["username"] == "alice"


def test_a_change_by_the_session_needs_the_csrf_token(browser: Client) -> None:
    refused = put(browser)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert put(browser, **{"x-csrftoken": "x" * 32}).status_code == 403
    token = browser.cookies["csrftoken"].value
    assert put(browser, **{"x-csrftoken": token}).status_code == 200


def test_a_token_needs_no_csrf_token_even_beside_a_session(browser: Client, alice: User) -> None:
    bearer = f"Bearer {tokens.begin(alice).access}"
    assert put(browser, authorization=bearer).status_code == 200


def test_a_bad_token_is_not_saved_by_a_good_session(browser: Client) -> None:
    response = browser.get(ME, headers={"authorization": "Bearer rubbish"})
    assert response.status_code == 401
    assert browser.get(ME, headers={"x-api-key": "rubbish"}).status_code == 401


def test_the_session_of_an_account_that_was_switched_off_ends(browser: Client) -> None:
    User.objects.update(is_active=False)
    assert browser.get(ME).status_code == 401


def test_a_new_password_ends_the_other_sessions(browser: Client, alice: User) -> None:
    alice.set_password("another good password")
    alice.save()
    assert browser.get(ME).status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(browser: Client) -> None:
    cookie = browser.cookies["async_coder_session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
