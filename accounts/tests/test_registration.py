from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts.errors import AddressTaken, NameTaken
from accounts.models import Role, User
from accounts.registration import register

GOOD = {"email": "ann@example.com", "password": "correct horse battery", "name": "Ann Lee"}
PATHS = ["/api/v1/auth/register", "/api/auth/register", "/api/auth/register/"]


@pytest.fixture(autouse=True)
def greeted(settings: Any) -> list[User]:
    """Note the accounts that the upper layers were told of."""
    settings.UPCALLS = {"account_created": f"{__name__}.greet"}
    _greeted.clear()
    return _greeted


_greeted: list[User] = []


def greet(user: User) -> None:
    _greeted.append(user)


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_registering_answers_with_the_account_and_tokens(
    api: APIClient, path: str, greeted: list[User]
) -> None:
    response = api.post(path, GOOD)
    body = response.json()
    assert response.status_code == 201
    assert {"access_token", "refresh_token", "token_type", "expires_in", "user"} == body.keys()
    assert body["user"]["email"] == "ann@example.com"
    assert body["user"]["name"] == "Ann Lee"
    assert {"id", "created_at"} <= body["user"].keys()
    assert "password" not in response.content.decode()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {body['access_token']}")
    assert api.get("/api/v1/users/me").json()["id"] == body["user"]["id"]
    assert [str(user.pk) for user in greeted] == [body["user"]["id"]]


@pytest.mark.django_db
def test_what_a_client_may_not_choose_stays_as_it_is(api: APIClient) -> None:
    forbidden = {
        "id": "00000000-0000-0000-0000-000000000001",
        "role": "admin",
        "is_staff": True,
        "is_superuser": True,
        "is_active": False,
        "plan": "enterprise",
        "subscription_tier": "enterprise",
        "credits": 10**9,
        "token_version": 7,
        "event_sequence": 7,
        "running_tasks": 7,
        "concurrent_tasks": 99,
        "permissions": ["admin"],
        "groups": [1],
    }
    assert api.post(PATHS[0], GOOD | forbidden).status_code == 201
    user = User.objects.get()
    assert user.role == Role.USER
    assert (user.is_staff, user.is_superuser, user.is_active) == (False, False, True)
    assert (user.plan, user.token_version, user.concurrent_tasks) == ("free", 0, 2)
    assert str(user.pk) != forbidden["id"]


@pytest.mark.django_db
@pytest.mark.parametrize("email", ["ann@example.com", "ANN@example.com", "Ann@EXAMPLE.com"])
def test_a_taken_address_is_a_conflict_in_any_case(api: APIClient, email: str) -> None:
    register(**GOOD)
    response = api.post(PATHS[0], GOOD | {"email": email})
    assert response.status_code == 409
    assert response.json()["code"] == "CONFLICT"
    assert User.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": ""}, "email"),
        ({"email": None}, "email"),
        ({"email": ["a@example.com"]}, "email"),
        ({"email": {"a": 1}}, "email"),
        ({"email": "a" * 250 + "@example.com"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "password"}, "password"),
        ({"password": "12345678901"}, "password"),
        ({"password": "ann@example.com"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"name": "x" * 151}, "name"),
        ({"username": "victim@example.com"}, "username"),
    ],
)
def test_bad_values_are_refused_by_name(
    api: APIClient, change: dict[str, Any], field: str, greeted: list[User]
) -> None:
    response = api.post(PATHS[0], GOOD | change)
    assert response.status_code == 400
    assert response.json()["code"] == "VALIDATION_ERROR"
    assert field in response.json()["details"]
    assert not User.objects.exists()
    assert greeted == []


@pytest.mark.django_db
def test_user_names_come_from_the_address_and_stay_unique() -> None:
    names = [register(**GOOD | {"email": f"Ann.Lee@{host}.org"}).username for host in "abc"]
    assert names[0] == "ann.lee"
    assert len(set(names)) == 3
    odd = register(**GOOD | {"email": "ÄÖ@example.org"})
    assert odd.username == "ao"
    with pytest.raises(NameTaken):
        register(**GOOD | {"email": "other@example.org", "username": "ANN.LEE"})


@pytest.mark.django_db
def test_an_account_whose_greeting_fails_is_not_kept(settings: Any) -> None:
    settings.UPCALLS = {"account_created": f"{__name__}.fail"}
    with pytest.raises(RuntimeError):
        register(**GOOD)
    assert not User.objects.exists()


def fail(user: User) -> None:
    raise RuntimeError


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_one_of_ten_that_want_the_same_address_gets_it() -> None:
    def attempt(_: int) -> bool:
        try:
            register(**GOOD)
        except AddressTaken:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(attempt, range(10))) == 1
    assert User.objects.count() == 1
