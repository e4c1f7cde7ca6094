from __future__ import annotations

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts import keys, tokens
from accounts.models import User

ME = "/api/v1/users/me"
PATHS = ["/api/auth/logout", "/api/v1/auth/logout"]


def bearer(pair: tokens.Pair) -> APIClient:
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {pair.access}")
    return api


@pytest.mark.parametrize("path", PATHS)
def test_logout_ends_the_family_and_the_access_token(
    api: APIClient, alice: User, path: str
) -> None:
    pair, phone = tokens.begin(alice), tokens.begin(alice)
    assert bearer(pair).post(path).status_code == 200
    assert bearer(pair).get(ME).status_code == 401
    body = {"refresh_token": pair.refresh}
    assert api.post("/api/v1/auth/refresh", body).status_code == 401
    assert bearer(phone).get(ME).status_code == 200


def test_both_seeds_find_their_message(alice: User) -> None:
    envelope = bearer(tokens.begin(alice)).post(PATHS[0]).json()
    message = "Logged out successfully"
    assert envelope == {"success": True, "data": {"message": message}, "message": message}
    assert bearer(tokens.begin(alice)).post(PATHS[1]).json() == {"message": message}


def test_logout_ends_the_session_that_began_with_the_token(client: Client, alice: User) -> None:
    client.force_login(alice)
    pair = tokens.begin(alice, session_key=str(client.session.session_key))
    assert client.get(ME).status_code == 200
    bearer(pair).post(PATHS[0])
    assert client.get(ME).status_code == 401


def test_logout_by_the_session_ends_it_and_its_tokens(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    pair = tokens.begin(alice, session_key=str(client.session.session_key))
    other = tokens.begin(alice)
    assert client.post(PATHS[0]).status_code == 200
    assert client.get(ME).status_code == 401
    assert bearer(pair).get(ME).status_code == 401
    assert bearer(other).get(ME).status_code == 200


def test_a_session_beside_the_token_ends_only_if_it_is_the_same_users(
    alice: User, mallory: User
) -> None:
    for user, code in ((alice, 401), (mallory, 200)):
        client = Client()
        client.force_login(user)
        headers = {"authorization": f"Bearer {tokens.begin(alice).access}"}
        assert client.post(PATHS[0], headers=headers).status_code == 200
        assert client.get(ME).status_code == code


def test_a_key_cannot_log_out_and_nobody_cannot(api: APIClient, alice: User) -> None:
    assert api.post(PATHS[0]).status_code == 401
    _, text = keys.create(user=alice, name="ci")
    api.credentials(HTTP_X_API_KEY=text)
    assert api.post(PATHS[0]).status_code == 400
    assert api.get(ME).status_code == 200


def test_a_viewer_may_log_out(victor_api: APIClient) -> None:
    assert victor_api.post(PATHS[0]).status_code == 200
