from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts import keys, tokens
from accounts.models import User
from accounts.sockets import user_of


def scope(**headers: str) -> dict[str, Any]:
    given = {"host": "localhost:8000"} | headers
    return {"headers": [(name.encode(), value.encode()) for name, value in given.items()]}


@pytest.fixture
def cookie(alice: User) -> str:
    client = Client()
    client.force_login(alice)
    return f"csrftoken=x; async_coder_session={client.session.session_key}"


def test_a_token_or_a_key_tells_who_it_is(alice: User) -> None:
    assert user_of(scope(), tokens.begin(alice).access) == alice
    assert user_of(scope(), keys.create(user=alice, name="ci")[1]) == alice
    for scopes, expected in ((["task:read"], alice), (["build:create"], None)):
        _, text = keys.create(user=alice, name="ci", scopes=scopes)
        assert user_of(scope(), text) == expected


def test_a_session_tells_who_it_is(cookie: str, alice: User) -> None:
    assert user_of(scope(cookie=cookie)) == alice


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["rubbish", "ac_rubbish", "a.b.c"])
def test_nobody_is_behind_anything_else(token: str) -> None:
    assert user_of(scope(), token) is None
    assert user_of(scope(cookie="async_coder_session=rubbish")) is None
    assert user_of(scope()) is None


def test_a_bad_token_is_not_saved_by_a_good_session(cookie: str) -> None:
    assert user_of(scope(cookie=cookie), "rubbish") is None


def test_a_foreign_page_does_not_use_the_session(cookie: str, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["localhost"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://coder.example.org"]
    for origin in (
        "http://evil.example",
        "null",
        "http://localhost:9999",
        "http://localhost",
        "file://localhost:8000",
        "http://evil.example/localhost:8000",
        "http://localhost:8000@evil.example",
    ):
        assert user_of(scope(cookie=cookie, origin=origin)) is None
    for origin in ("http://localhost:8000", "https://coder.example.org"):
        assert user_of(scope(cookie=cookie, origin=origin)) is not None
    rebound = {"host": "evil.example", "origin": "http://evil.example"}
    assert user_of(scope(cookie=cookie, **rebound)) is None


def test_asked_again_it_notices_what_ended(alice: User, cookie: str) -> None:
    pair = tokens.begin(alice)
    key, text = keys.create(user=alice, name="ci")
    _, family = tokens.read(pair.access)
    tokens.revoke(family)
    assert user_of(scope(), pair.access) is None
    key.revoke(at=key.created_at)
    assert user_of(scope(), text) is None
    alice.set_password("another good password")
    alice.save()
    assert user_of(scope(cookie=cookie)) is None


def test_an_inactive_account_is_nobody(alice: User, cookie: str) -> None:
    pair, (_, text) = tokens.begin(alice), keys.create(user=alice, name="ci")
    User.objects.update(is_active=False)
    assert [user_of(scope(), pair.access), user_of(scope(), text)] == [None, None]
    assert user_of(scope(cookie=cookie)) is None
