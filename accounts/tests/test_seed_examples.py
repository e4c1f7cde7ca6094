"""The printed examples of signing in and of the own account, field by field and in their types."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts import tokens
from accounts.models import User
from accounts.tests.clerk_server import ClerkServer, running_clerk

PASSWORD = "correct horse battery"


def is_uuid(value: Any) -> bool:
    return str(uuid.UUID(value)) == str(value)


def is_moment(value: Any) -> bool:
    return str(value).endswith("Z") and datetime.fromisoformat(value).tzinfo is not None


def is_token(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("eyJ") and value.count(".") == 2


PROFILE_0 = {
    "id": is_uuid,
    "email": "alice@example.com",
    "username": "alice",
    "displayName": str,
    "avatarUrl": str,
    "credits": int,
    "subscriptionTier": "free",
    "isGithubConnected": False,
}
PROFILE_0_WHOLE = PROFILE_0 | {
    "totalCreditsUsed": int,
    "createdAt": is_moment,
    "updatedAt": is_moment,
}
PROFILE_4 = {
    "id": is_uuid,
    "email": "alice@example.com",
    "name": str,
    "created_at": is_moment,
    "updated_at": is_moment,
}


def check(body: dict[str, Any], printed: dict[str, Any]) -> None:
    """Compare a body with what the document prints: a value, a type, a rule or an object."""
    for name, expected in printed.items():
        assert name in body, name
        value = body[name]
        if isinstance(expected, dict):
            check(value, expected)
        elif isinstance(expected, type):
            assert type(value) is expected, name
        elif callable(expected):
            assert expected(value), name
        else:
            assert value == expected, name


@pytest.fixture
def clerk_server(settings: Any) -> Iterator[ClerkServer]:
    with running_clerk() as server:
        settings.CLERK_ISSUER = server.url
        yield server


def test_what_is_missing_or_of_another_type_is_seen() -> None:
    for body in ({}, {"a": {"b": "1"}}, {"a": {"b": None}}):
        with pytest.raises(AssertionError):
            check(body, {"a": {"b": int}})
    check({"a": {"b": 1}, "c": 2}, {"a": {"b": int}})


@pytest.mark.django_db
def test_seed_0_signs_in_with_clerk(api: APIClient, clerk_server: ClerkServer) -> None:
    token = clerk_server.token(email="alice@example.com", email_verified=True)
    body = api.post("/api/auth/login", {"clerkToken": token}).json()
    data = {"token": is_token, "refreshToken": is_token, "sessionId": str, "user": PROFILE_0}
    check(body, {"success": True, "data": data})


def test_seed_0_refreshes(api: APIClient, alice: User) -> None:
    given = {"refreshToken": tokens.begin(alice).refresh}
    body = api.post("/api/auth/refresh", given).json()
    check(body, {"success": True, "data": {"token": is_token, "refreshToken": is_token}})


def test_seeds_0_and_4_sign_out(alice_api: APIClient) -> None:
    body = alice_api.post("/api/auth/logout").json()
    check(body, {"success": True, "data": {"message": "Logged out successfully"}, "message": str})


def test_seeds_0_and_4_show_the_account(alice_api: APIClient) -> None:
    body = alice_api.get("/api/users/me").json()
    check(body, {"success": True, "data": PROFILE_0_WHOLE} | PROFILE_4)


def test_seed_0_changes_the_account(alice_api: APIClient) -> None:
    given = {"displayName": "New Display Name", "avatarUrl": "https://new-avatar-url.com"}
    body = alice_api.put("/api/users/me", given).json()
    check(body, {"success": True, "data": PROFILE_0 | given})


def test_seed_4_changes_the_account(alice_api: APIClient) -> None:
    given = {"name": "John Smith", "email": "john.smith@example.com"}
    check(alice_api.put("/api/users/me", given).json(), PROFILE_4 | given)


@pytest.mark.django_db
def test_seed_4_registers(api: APIClient) -> None:
    given = {"email": "user@example.com", "password": "a pass of 123", "name": "John Doe"}
    answer = api.post("/api/auth/register", given)
    user = {"id": is_uuid, "email": given["email"], "name": "John Doe", "created_at": is_moment}
    check(answer.json(), {"user": user, "access_token": is_token, "refresh_token": is_token})
    assert answer.status_code == 201


def test_seed_4_signs_in(api: APIClient, alice: User) -> None:
    body = api.post("/api/auth/login", {"email": alice.email, "password": PASSWORD}).json()
    pair = {"access_token": is_token, "refresh_token": is_token, "expires_in": 3600}
    user = {"id": str(alice.pk), "email": alice.email, "name": "alice"}
    check(body, pair | {"token_type": "bearer", "user": user})


def test_seed_4_refreshes(api: APIClient, alice: User) -> None:
    given = {"refresh_token": tokens.begin(alice).refresh}
    body = api.post("/api/auth/refresh", given).json()
    check(body, {"access_token": is_token, "expires_in": 3600, "refresh_token": is_token})


def test_seed_3_signs_in_with_a_form(api: APIClient, alice: User) -> None:
    form = "email=alice%40example.com&password=correct+horse+battery"
    kind = "application/x-www-form-urlencoded"
    body = api.post("/api/v1/auth/login", form, content_type=kind).json()
    check(body, {"access_token": is_token})
