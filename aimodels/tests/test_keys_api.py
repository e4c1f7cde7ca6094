"""S1's /api/v1/api-keys: written, replaced, switched off, removed; never returned."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from aimodels import keys
from aimodels.models import ProviderKey

NOBODYS = str(uuid.UUID(int=1))
KEYS = "/api/v1/api-keys"
PLAIN = "sk-test-0123456789abcdefWXYZ"
ROUTES = [
    ("get", KEYS),
    ("post", KEYS),
    ("get", f"{KEYS}/{NOBODYS}"),
    ("put", f"{KEYS}/{NOBODYS}"),
    ("delete", f"{KEYS}/{NOBODYS}"),
]


@pytest.fixture
def as_alice(api: APIClient, alice: User) -> APIClient:
    api.force_authenticate(alice)
    return api


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_anonymous_gets_401(api: APIClient, db: None, method: str, route: str) -> None:
    assert getattr(api, method)(route).status_code == 401


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_a_viewer_may_only_look(api: APIClient, victor: User, method: str, route: str) -> None:
    api.force_authenticate(victor)
    expected = (200, 404) if method == "get" else (403,)
    assert getattr(api, method)(route).status_code in expected


def test_a_key_is_stored_and_comes_back_masked(as_alice: APIClient, alice: User) -> None:
    answer = as_alice.post(KEYS, {"provider": "openai", "name": "work", "key": PLAIN})
    assert answer.status_code == 201, answer.json()
    body = answer.json()
    assert (body["provider"], body["name"], body["masked"]) == ("openai", "work", "••••WXYZ")
    stored = ProviderKey.objects.get(pk=body["id"])
    assert (stored.user, keys.reveal(stored).reveal()) == (alice, PLAIN)


def test_no_route_returns_a_key(as_alice: APIClient, alice: User) -> None:
    key = keys.add(user=alice, provider="openai", plain=PLAIN)
    answers = [
        as_alice.get(KEYS),
        as_alice.get(f"{KEYS}/{key.pk}"),
        as_alice.put(f"{KEYS}/{key.pk}", {"key": PLAIN}),
        as_alice.post(KEYS, {"provider": "openai", "key": PLAIN}),
    ]
    for answer in answers:
        assert answer.status_code < 300
        assert PLAIN not in answer.content.decode()
        assert "sealed" not in answer.content.decode()


def test_a_refused_key_is_not_repeated_in_the_error(as_alice: APIClient) -> None:
    answer = as_alice.post(KEYS, {"provider": "openai", "key": "sk-canary-1234 schlüssel"})
    assert answer.status_code == 400
    assert "canary" not in answer.content.decode()


def test_a_key_is_replaced_renamed_and_switched_off(as_alice: APIClient, alice: User) -> None:
    key = keys.add(user=alice, provider="openai", plain=PLAIN)
    route = f"{KEYS}/{key.pk}"
    changed = {"key": "sk-another-0123456789-9876", "name": "new", "is_active": False}
    body = as_alice.put(route, changed).json()
    assert (body["masked"], body["name"], body["is_active"]) == ("••••9876", "new", False)
    key.refresh_from_db()
    assert keys.reveal(key).reveal() == "sk-another-0123456789-9876"
    assert as_alice.delete(route).status_code == 204
    assert not ProviderKey.objects.exists()


def test_only_what_is_given_changes(as_alice: APIClient, alice: User) -> None:
    key = keys.add(user=alice, provider="openai", plain=PLAIN, name="work")
    as_alice.put(f"{KEYS}/{key.pk}", {"is_active": False})
    key.refresh_from_db()
    assert (key.name, key.is_active, keys.reveal(key).reveal()) == ("work", False, PLAIN)


def test_a_key_stays_with_its_user_and_provider(
    as_alice: APIClient, alice: User, mallory: User
) -> None:
    key = keys.add(user=alice, provider="openai", plain=PLAIN)
    forged = {
        "user": str(mallory.pk),
        "user_id": str(mallory.pk),
        "masked": "x",
        "sealed_key": "x",
        "provider": "anthropic",
    }
    assert as_alice.put(f"{KEYS}/{key.pk}", forged).status_code == 200
    key.refresh_from_db()
    assert (key.user, key.provider, key.masked) == (alice, "openai", "••••WXYZ")
    assert keys.reveal(key).reveal() == PLAIN


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"provider": "openai"}, "key"),
        ({"key": PLAIN}, "provider"),
        ({"provider": "builtin", "key": PLAIN}, "provider"),
        ({"provider": "openai", "key": ""}, "key"),
        ({"provider": "openai", "key": "k" * 501}, "key"),
        ({"provider": "openai", "key": PLAIN, "name": "n" * 101}, "name"),
    ],
)
def test_wrong_values_are_refused(as_alice: APIClient, body: dict[str, Any], field: str) -> None:
    answer = as_alice.post(KEYS, body)
    assert answer.status_code == 400
    assert field in answer.json()["details"]
    assert not ProviderKey.objects.exists()


def test_nobody_sees_or_changes_anothers_keys_not_even_staff(
    api: APIClient, alice: User, mallory: User, staff: User
) -> None:
    key = keys.add(user=alice, provider="openai", plain=PLAIN)
    route = f"{KEYS}/{key.pk}"
    for user in (mallory, staff):
        api.force_authenticate(user)
        assert api.get(KEYS).json()["api_keys"] == []
        assert api.get(route).status_code == 404
        assert api.put(route, {"is_active": False}).status_code == 404
        assert api.delete(route).status_code == 404
    key.refresh_from_db()
    assert key.is_active


def test_a_list_of_keys_takes_two_queries(
    as_alice: APIClient, alice: User, django_assert_num_queries: Any
) -> None:
    for _ in range(4):
        keys.add(user=alice, provider="openai", plain=PLAIN)
    with django_assert_num_queries(2):
        assert len(as_alice.get(KEYS).json()["api_keys"]) == 4
