from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts import identities, keys
from accounts.clerk import Person
from accounts.models import ExternalIdentity, TokenFamily, User
from accounts.tests.clerk_server import SECRET, ClerkServer, running_clerk

LOGIN = "/api/auth/login"
ME = "/api/users/me"
CONNECT = "/api/v1/users/clerk"


@pytest.fixture
def clerk_server(settings: Any) -> Iterator[ClerkServer]:
    with running_clerk() as server:
        settings.CLERK_ISSUER = server.url
        settings.CLERK_API_URL = f"{server.url}/v1"
        yield server


def sign_in(token: str) -> dict[str, Any]:
    answer = APIClient().post(LOGIN, {"clerkToken": token})
    assert answer.status_code == 200, answer.content
    return dict(answer.json()["data"])


@pytest.mark.django_db
def test_a_first_sign_in_opens_an_account_and_the_next_finds_it(clerk_server: ClerkServer) -> None:
    given: dict[str, Any] = {"email": "ann@example.com", "email_verified": True, "name": "Ann Lee"}
    first = sign_in(clerk_server.token(**given))
    user = User.objects.get()
    assert (user.email, user.display_name, user.role) == ("ann@example.com", "Ann Lee", "user")
    assert not user.has_usable_password()
    assert first["user"]["credits"] == 100
    again = sign_in(clerk_server.token(email="other@example.com", email_verified=True))
    assert again["user"]["id"] == first["user"]["id"]
    assert User.objects.get().email == "ann@example.com"


@pytest.mark.django_db
def test_another_issuers_subject_of_the_same_name_is_somebody_else(settings: Any) -> None:
    people = [Person("https://one.example", "user_1"), Person("https://two.example", "user_1")]
    assert len({identities.account_of(person).pk for person in people}) == 2


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "alice@example.com", "email_verified": False},
        {"email": "alice@example.com"},
        {"email": "alice@example.com", "email_verified": "true"},
        {"sub": "alice", "username": "alice", "name": "alice"},
        {"sub": "alice@example.com"},
    ],
)
def test_an_unproven_address_or_a_name_never_leads_to_an_account(
    clerk_server: ClerkServer, alice: User, claims: dict[str, Any]
) -> None:
    body = sign_in(clerk_server.token(**claims))
    assert body["user"]["id"] != str(alice.pk)
    assert body["user"]["email"].endswith("@no-address.invalid")
    alice.refresh_from_db()
    assert (alice.email, alice.external_identities.count()) == ("alice@example.com", 0)


@pytest.mark.parametrize("email", ["alice@example.com", "ALICE@example.com"])
def test_whose_verified_address_has_an_account_connects_to_it_first(
    api: APIClient, alice_api: APIClient, clerk_server: ClerkServer, alice: User, email: str
) -> None:
    token = clerk_server.token(email=email, email_verified=True)
    refused = api.post(LOGIN, {"clerkToken": token})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "CONFLICT")
    assert "connect Clerk" in refused.json()["error"]["message"]
    assert (User.objects.count(), ExternalIdentity.objects.count()) == (1, 0)
    for _ in range(2):
        assert alice_api.post(CONNECT, {"clerk_token": token}).status_code == 200
    assert sign_in(token)["user"]["id"] == str(alice.pk)
    assert ExternalIdentity.objects.count() == 1


def test_nobody_connects_what_is_anothers_or_by_a_key(
    api: APIClient, mallory_api: APIClient, victor_api: APIClient, clerk_server: ClerkServer,
    alice: User,
) -> None:  # fmt: skip
    token = clerk_server.token()
    assert api.post(CONNECT, {"clerk_token": token}).status_code == 401
    api.credentials(HTTP_X_API_KEY=keys.create(user=alice, name="k", scopes=[])[1])
    assert api.post(CONNECT, {"clerk_token": token}).status_code == 403
    assert mallory_api.post(CONNECT, {"clerk_token": f"{token}x"}).status_code == 401
    assert victor_api.post(CONNECT, {"clerk_token": token}).status_code == 200
    refused = mallory_api.post(CONNECT, {"clerk_token": token})
    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    assert ExternalIdentity.objects.get().user.username == "victor"


def test_connecting_needs_the_setting(alice_api: APIClient, settings: Any) -> None:
    settings.CLERK_ISSUER = ""
    answer = alice_api.post(CONNECT, {"clerk_token": "x"})
    assert answer.status_code == 503
    assert "CLERK_ISSUER" in answer.json()["message"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("claims", "email"),
    [
        ({"email": "ann@example.com", "email_verified": False}, ""),
        ({"email": "ann@example.com"}, ""),
        ({"email": "no address", "email_verified": True}, ""),
        ({"email": ["ann@example.com"], "email_verified": True}, ""),
        ({"email": "ann@example.com", "email_verified": True}, "ann@example.com"),
    ],
)
def test_only_a_verified_address_is_kept(
    clerk_server: ClerkServer, claims: dict[str, Any], email: str
) -> None:
    found = sign_in(clerk_server.token(**claims))["user"]["email"]
    assert found == email if email else found.endswith("@no-address.invalid")


def profile(status: str = "verified") -> dict[str, Any]:
    return {
        "first_name": "Ann",
        "last_name": "Lee",
        "image_url": "https://img.example.com/ann.png",
        "primary_email_address_id": "b",
        "email_addresses": [
            {"id": "a", "email_address": "old@example.com", "verification": {"status": "verified"}},
            {"id": "b", "email_address": "ann@example.com", "verification": {"status": status}},
        ],
    }


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["verified", "unverified"])
def test_with_the_secret_key_clerk_is_asked_once_who_it_is(
    clerk_server: ClerkServer, settings: Any, status: str
) -> None:
    settings.CLERK_SECRET_KEY = SECRET
    clerk_server.people["user_2abc"] = profile(status)
    user = sign_in(clerk_server.token())["user"]
    assert (user["displayName"], user["avatarUrl"]) == (
        "Ann Lee",
        "https://img.example.com/ann.png",
    )
    assert (user["email"] == "ann@example.com") == (status == "verified")
    sign_in(clerk_server.token())
    assert [path for path in clerk_server.requests if "users" in path] == ["/v1/users/user_2abc"]


@pytest.mark.django_db
@pytest.mark.parametrize("person", [{}, {"email_addresses": 7}, {"email_addresses": [7, {}]}])
def test_an_odd_profile_is_no_obstacle(
    clerk_server: ClerkServer, settings: Any, person: dict[str, Any]
) -> None:
    settings.CLERK_SECRET_KEY = SECRET
    clerk_server.people["user_2abc"] = {"id": "user_2abc"} | person
    assert sign_in(clerk_server.token())["user"]["username"]


@pytest.mark.django_db
def test_no_account_is_opened_while_clerk_cannot_say_who_it_is(
    api: APIClient, clerk_server: ClerkServer, settings: Any
) -> None:
    settings.CLERK_SECRET_KEY = SECRET
    assert api.post(LOGIN, {"clerkToken": clerk_server.token()}).status_code == 503
    assert not User.objects.exists()


@pytest.mark.django_db
def test_the_session_is_the_dashboards_and_ends_with_the_sign_in(
    clerk_server: ClerkServer, client: Client
) -> None:
    answer = APIClient().post(LOGIN, {"clerkToken": clerk_server.token()})
    assert "async_coder_session" not in answer.cookies
    body = answer.json()["data"]
    client.cookies["async_coder_session"] = body["sessionId"]
    assert client.get(ME).json()["data"]["id"] == body["user"]["id"]
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {body['token']}")
    assert api.get(ME).status_code == 200
    assert api.post("/api/auth/logout").status_code == 200
    assert [api.get(ME).status_code, client.get(ME).status_code] == [401, 401]
    refused = api.post("/api/auth/refresh", {"refreshToken": body["refreshToken"]})
    assert (refused.status_code, Session.objects.count()) == (401, 0)


@pytest.mark.django_db
def test_an_account_that_was_switched_off_stays_out(
    api: APIClient, clerk_server: ClerkServer
) -> None:
    sign_in(clerk_server.token())
    User.objects.update(is_active=False)
    families = TokenFamily.objects.count()
    assert api.post(LOGIN, {"clerkToken": clerk_server.token()}).status_code == 401
    assert TokenFamily.objects.count() == families


@pytest.mark.django_db
def test_such_an_account_has_no_password_to_guess(
    api: APIClient, clerk_server: ClerkServer
) -> None:
    name = sign_in(clerk_server.token())["user"]["username"]
    for password in ("", "!", "None"):
        body = {"username": name, "password": password}
        assert api.post(LOGIN, body).status_code in (400, 401)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("picture", "kept"),
    [
        ("https://img.example.com/a.png", True),
        ("javascript:alert(1)", False),
        ("data:image/svg+xml,x", False),
        (f"https://img.example.com/{'a' * 500}", False),
    ],
)
def test_a_picture_is_a_web_address(clerk_server: ClerkServer, picture: str, kept: bool) -> None:
    user = sign_in(clerk_server.token(picture=picture, name="N\0" + "x" * 300))["user"]
    assert user["avatarUrl"] == (picture if kept else "")
    assert len(user["displayName"]) == 150


@pytest.mark.django_db
def test_the_plain_route_takes_a_token_too(api: APIClient, clerk_server: ClerkServer) -> None:
    body = api.post("/api/v1/auth/login", {"clerk_token": clerk_server.token()}).json()
    assert {"access_token", "refresh_token", "token", "session_id", "user"} <= body.keys()


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_twenty_first_sign_ins_at_once_one_opens_the_account() -> None:
    person = Person("https://clerk.example", "user_1", "ann@example.com", "Ann")

    def attempt(_: int) -> str:
        try:
            return str(identities.account_of(person).pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        found = set(pool.map(attempt, range(20)))
    assert len(found) == 1
    assert (User.objects.count(), ExternalIdentity.objects.count()) == (1, 1)
    assert User.objects.get().email == "ann@example.com"
