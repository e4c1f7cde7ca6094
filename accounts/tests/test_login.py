from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import hashers
from rest_framework.test import APIClient

from accounts.models import TokenFamily, User

PASSWORD = "correct horse battery"
PATHS = ["/auth/login", "/api/auth/login", "/api/v1/auth/login"]
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "identity",
    [
        {"email": "alice@example.com"},
        {"username": "alice"},
        {"email": "ALICE@example.com"},
        {"username": "Alice"},
        {"email": "alice"},
        {"username": "alice@example.com"},
    ],
)
def test_signing_in_answers_with_the_union_of_the_seeds(
    api: APIClient, alice: User, path: str, identity: dict[str, str]
) -> None:
    body = api.post(path, {**identity, "password": PASSWORD}).json()
    assert {"access_token", "refresh_token", "token_type", "expires_in", "user"} == body.keys()
    assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)
    assert body["user"]["id"] == str(alice.pk)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {body['access_token']}")
    assert api.get("/api/v1/users/me").status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_form_signs_in_too(api: APIClient, alice: User, path: str) -> None:
    form = "email=alice%40example.com&password=correct+horse+battery"
    assert "access_token" in api.post(path, form, content_type=FORM).json()


def test_a_sign_in_is_noted(api: APIClient, alice: User) -> None:
    body = {"email": "alice", "password": PASSWORD}
    api.post(PATHS[0], body, HTTP_USER_AGENT="x" * 999, REMOTE_ADDR="9.8.7.6")
    family = TokenFamily.objects.get()
    assert (family.user, family.address, len(family.user_agent)) == (alice, "9.8.7.6", 300)
    alice.refresh_from_db()
    assert alice.last_login is not None


def refusals(api: APIClient) -> list[Any]:
    """Return the answers to every way of not being let in."""
    bodies = [
        {"email": "alice@example.com", "password": "wrong"},
        {"email": "nobody@example.com", "password": "wrong"},
        {"username": "nobody", "password": PASSWORD},
        {"username": "sleeper", "password": PASSWORD},
        {"username": "clerk", "password": "x"},
    ]
    return [api.post(PATHS[2], body) for body in bodies]


@pytest.fixture
def others(db: None) -> None:
    User.objects.create_user("sleeper", "s@example.com", PASSWORD, is_active=False)
    User.objects.create_user("clerk", "c@example.com", None)


@pytest.mark.usefixtures("alice", "others")
def test_nobody_learns_which_accounts_there_are(api: APIClient) -> None:
    answers = refusals(api)
    assert {answer.status_code for answer in answers} == {401}
    bodies = [{**answer.json(), "timestamp": ""} for answer in answers]
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0]["code"] == "UNAUTHORIZED"
    assert {answer["WWW-Authenticate"] for answer in answers} == {'Bearer realm="api"'}


@pytest.mark.usefixtures("alice", "others")
def test_a_password_is_hashed_once_whoever_is_named(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher = type(hashers.get_hasher())
    real, calls = hasher.encode, []

    def counted(self: Any, password: str, salt: str) -> str:
        calls.append(password)
        return str(real(self, password, salt))

    monkeypatch.setattr(hasher, "encode", counted)
    single = []
    for name in ("alice", "nobody", "sleeper", "clerk"):
        api.post(PATHS[2], {"username": name, "password": "wrong"})
        single.append(len(calls))
        calls.clear()
    assert single == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "alice"},
        {"password": PASSWORD},
        {"email": "", "password": PASSWORD},
        {"email": "alice", "password": ""},
        {"email": ["alice"], "password": PASSWORD},
        {"email": {"a": 1}, "password": PASSWORD},
        {"email": "alice", "password": ["x"]},
        {"email": "alice", "password": None},
        {"email": "a" * 300, "password": PASSWORD},
        {"email": "alice", "password": "x" * 1025},
    ],
)
def test_bodies_that_name_nobody_are_refused(
    api: APIClient, alice: User, body: dict[str, Any]
) -> None:
    response = api.post(PATHS[2], body)
    assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR")


def test_a_user_named_like_an_address_does_not_stand_before_its_owner(
    api: APIClient, alice: User
) -> None:
    User.objects.create_user("alice@example.com", "evil@example.com", "evil password")
    body = {"username": "alice@example.com", "password": "evil password"}
    assert api.post(PATHS[0], body).status_code == 401
    body["password"] = PASSWORD
    assert api.post(PATHS[0], body).json()["user"]["id"] == str(alice.pk)


@pytest.mark.parametrize(
    ("body", "is_plain"),
    [
        ({"email": "alice", "password": "wrong"}, True),
        ({"username": "alice", "password": "wrong"}, True),
        ({"password": "wrong"}, True),
        ({"clerkToken": "x"}, False),
        ({"clerkToken": "x", "email": "alice", "password": "wrong"}, False),
        ({}, False),
        ({"other": 1}, False),
    ],
)
def test_on_the_shared_path_the_body_decides_the_dialect_of_the_error(
    api: APIClient, alice: User, body: dict[str, str], is_plain: bool
) -> None:
    answer = api.post("/api/auth/login", body).json()
    assert ("status_code" in answer) == is_plain
    assert ("success" in answer) != is_plain


def test_a_body_that_cannot_be_read_is_answered_by_the_envelope(api: APIClient, db: None) -> None:
    answer = api.post("/api/auth/login", "{", content_type="application/json")
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    answer = api.get("/api/auth/login")
    assert (answer.status_code, answer.json()["success"]) == (405, False)


def test_a_clerk_token_without_the_settings_is_503_and_names_them(api: APIClient, db: None) -> None:
    answer = api.post("/api/auth/login", {"clerkToken": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert "CLERK_ISSUER" in answer.json()["error"]["message"]


def test_a_broken_credential_beside_the_right_password_does_not_matter(
    api: APIClient, alice: User
) -> None:
    api.credentials(HTTP_AUTHORIZATION="Bearer rubbish", HTTP_X_API_KEY="rubbish")
    body = {"email": "alice", "password": PASSWORD}
    assert api.post(PATHS[0], body).status_code == 200
