"""Connecting GitHub in the browser: the state is in the session, and used once."""

from __future__ import annotations

import html
import re
import threading
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import LazySettings
from django.test import Client

from accounts.models import GithubAccount, User
from asynccoder.tests.github_server import TOKEN, FakeGithub, Fault

CONNECT, CALLBACK, DISCONNECT = "/github/connect/", "/github/callback/", "/github/disconnect/"


def led_to_github(page: Client, github: FakeGithub, code: str) -> str:
    """Follow the button, agree, and return the state that comes back."""
    answer = page.post(CONNECT)
    assert answer.status_code == 200
    led = re.search('http-equiv="refresh" content="0; url=([^"]+)"', answer.content.decode())
    assert led
    address = html.unescape(led[1])
    assert address.startswith(f"{github.url}/login/oauth/authorize?")
    github.agree(address, code)
    asked = parse_qs(urlsplit(address).query)
    assert asked["scope"] == ["repo"]
    assert asked["redirect_uri"] == ["http://localhost:8000/github/callback/"]
    return asked["state"][0]


def test_the_button_leads_to_github_and_back(page: Client, alice: User, github: FakeGithub) -> None:
    page.force_login(alice)
    assert "Connect GitHub" in page.get("/repositories/").content.decode()
    code = github.add_user(TOKEN)
    state = led_to_github(page, github, code)
    answer = page.get(CALLBACK, {"code": code, "state": state}, follow=True)
    assert "GitHub is connected as octo." in answer.content.decode()
    assert "Disconnect GitHub" in answer.content.decode()
    assert GithubAccount.objects.get().user == alice
    assert github.requests("access_token")[0].form["redirect_uri"].endswith(CALLBACK)
    again = page.get(CALLBACK, {"code": github.add_user(TOKEN), "state": state}, follow=True)
    assert "begin again" in again.content.decode()


def test_another_sessions_state_connects_nothing(
    page: Client, alice: User, mallory: User, github: FakeGithub
) -> None:
    attacker = Client()
    attacker.force_login(mallory)
    code = github.add_user(TOKEN)
    state = led_to_github(attacker, github, code)
    page.force_login(alice)
    for given in ({"code": code, "state": state}, {"code": code}, {"code": code, "state": "é"}):
        page.post(CONNECT)
        page.get(CALLBACK, given)
    assert not GithubAccount.objects.exists()
    assert github.requests("access_token") == []
    # The control: where it was begun, the same address connects.
    attacker.get(CALLBACK, {"code": code, "state": state})
    assert GithubAccount.objects.get().user == mallory


def test_a_user_who_does_not_agree_comes_back_unconnected(
    page: Client, alice: User, github: FakeGithub
) -> None:
    page.force_login(alice)
    state = led_to_github(page, github, "none")
    answer = page.get(CALLBACK, {"error": "access_denied", "state": state}, follow=True)
    assert "GitHub was not connected." in answer.content.decode()
    state = led_to_github(page, github, "unknown")
    answer = page.get(CALLBACK, {"code": "unknown", "state": state}, follow=True)
    assert "does not take this code" in answer.content.decode()


def test_a_refused_token_is_told_in_plain_words(
    page: Client, alice: User, github: FakeGithub
) -> None:
    page.force_login(alice)
    code = github.add_user(TOKEN)
    page.get(CALLBACK, {"code": code, "state": led_to_github(page, github, code)})
    GithubAccount.objects.update(refused_at="2026-01-01T00:00:00Z")
    shown = page.get("/repositories/").content.decode()
    assert "GitHub no longer accepts this connection" in shown
    assert "Connect GitHub again" in shown


def test_no_other_site_begins_it(page: Client, alice: User, github: FakeGithub) -> None:
    """Where the user has agreed before, GitHub sends the browser back without asking."""
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(alice)
    assert careful.post(CONNECT).status_code == 403
    assert careful.get(CONNECT)["Location"] == "/repositories/"
    assert "github_state" not in careful.session
    answer = careful.get(CALLBACK, {"code": github.add_user(TOKEN), "state": ""}, follow=True)
    assert "begin again" in answer.content.decode()
    assert not GithubAccount.objects.exists()


def test_disconnecting_needs_the_form(page: Client, alice: User, github: FakeGithub) -> None:
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(alice)
    assert careful.post(DISCONNECT).status_code == 403
    page.force_login(alice)
    code = github.add_user(TOKEN)
    page.get(CALLBACK, {"code": code, "state": led_to_github(page, github, code)})
    assert page.get(DISCONNECT).status_code == 405
    shown = page.post(DISCONNECT, follow=True).content.decode()
    assert "forgotten here and revoked at GitHub" in shown
    assert not GithubAccount.objects.exists()
    assert "no GitHub account" in page.post(DISCONNECT, follow=True).content.decode()


def test_a_github_that_does_not_answer_keeps_nobody(
    page: Client, alice: User, github: FakeGithub, settings: LazySettings
) -> None:
    page.force_login(alice)
    code = github.add_user(TOKEN)
    page.get(CALLBACK, {"code": code, "state": led_to_github(page, github, code)})
    settings.GITHUB_TIMEOUT_SECONDS = 1
    github.faults = [Fault("DELETE", hang=threading.Event())]
    shown = page.post(DISCONNECT, follow=True).content.decode()
    assert f"take it back at {github.url}/settings/applications" in shown
    assert not GithubAccount.objects.exists()


@pytest.mark.parametrize("path", [CONNECT, CALLBACK])
def test_a_viewer_and_nobody_are_not_led_anywhere(
    path: str, page: Client, victor: User, github: FakeGithub
) -> None:
    assert page.get(path)["Location"].startswith("/sign-in/")
    page.force_login(victor)
    assert page.get(path).status_code == 403
    assert page.post(DISCONNECT).status_code == 403
    assert "Connect GitHub" not in page.get("/repositories/").content.decode()


def test_without_the_settings_there_is_no_button(
    page: Client, alice: User, settings: LazySettings
) -> None:
    page.force_login(alice)
    assert "Connect GitHub" not in page.get("/repositories/").content.decode()
    assert "GITHUB_CLIENT_ID" in page.post(CONNECT, follow=True).content.decode()
