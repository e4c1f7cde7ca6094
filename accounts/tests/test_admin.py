from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin import site
from django.test import Client

from accounts import feed, keys, tokens
from accounts.models import AccessKey, FeedEvent, RefreshToken, TokenFamily, User

MODELS: list[Any] = [User, FeedEvent, TokenFamily, RefreshToken, AccessKey]


@pytest.fixture
def admin(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def path_of(model: type, action: str) -> str:
    return f"/admin/accounts/{model.__name__.lower()}/{action}"


def test_every_model_of_the_app_is_there() -> None:
    assert all(site.is_registered(model) for model in MODELS)


def test_lists_searches_and_details_open_and_show_no_secret(admin: Client, alice: User) -> None:
    feed.append(user_id=alice.pk, event="a", data={})
    pair = tokens.begin(alice, session_key="session-canary")
    key, text = keys.create(user=alice, name="ci")
    jti = str(RefreshToken.objects.get().pk)
    for model in MODELS:
        row = model.objects.first()
        paths = [path_of(model, ""), path_of(model, "?q=alice")]
        if model is not RefreshToken:
            paths.append(path_of(model, f"{row.pk}/change/"))
        for path in paths:
            response = admin.get(path)
            assert response.status_code == 200, path
            page = response.content.decode()
            for secret in (pair.access, text[12:], key.digest, "session-canary", alice.password):
                assert secret not in page, path
            assert jti not in page or model is RefreshToken


@pytest.mark.parametrize("model", [FeedEvent, TokenFamily, RefreshToken, AccessKey])
def test_what_the_platform_writes_is_not_added_by_hand(admin: Client, model: type) -> None:
    assert admin.get(path_of(model, "add/")).status_code == 403


def test_actions_end_tokens_sign_ins_and_keys(admin: Client, alice: User) -> None:
    first, second = tokens.begin(alice), tokens.begin(alice)
    key, _ = keys.create(user=alice, name="ci")

    def act(model: type, action: str, pk: object) -> None:
        body = {"action": action, "_selected_action": [str(pk)]}
        assert admin.post(path_of(model, ""), body).status_code == 302

    act(TokenFamily, "revoke", tokens.read(first.access)[1].pk)
    assert TokenFamily.objects.filter(revoked_at__isnull=True).count() == 1
    act(AccessKey, "revoke", key.pk)
    assert not AccessKey.objects.usable().exists()
    act(User, "end_tokens", alice.pk)
    assert not TokenFamily.objects.filter(revoked_at__isnull=True).exists()
    assert second


def test_an_account_added_by_hand_is_greeted(admin: Client) -> None:
    password = "correct horse battery"
    form = {
        "username": "new",
        "email": "new@example.com",
        "role": "user",
        "usable_password": "true",
        "password1": password,
        "password2": password,
    }
    assert admin.post(path_of(User, "add/"), form).status_code == 302
    client = Client()
    client.force_login(User.objects.get(username="new"))
    assert client.get("/api/v1/users/me").json()["credits"] == 100


def test_others_do_not_open_the_admin(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get(path_of(User, "")).status_code == 302


def test_an_account_that_staff_put_on_a_plan_gets_what_it_allows(
    client: Client, staff: User, alice: User
) -> None:
    client.force_login(staff)
    address = f"/admin/accounts/user/{alice.pk}/change/"
    form = client.get(address).context["adminform"].form.initial
    given = {name: value for name, value in form.items() if value not in (None, False)}
    given |= {"groups": [], "is_active": "on"}
    assert client.post(address, given | {"plan": "pro"}).status_code == 302
    alice.refresh_from_db()
    assert (alice.plan, alice.concurrent_tasks) == ("pro", 5)
    given |= {"plan": "free", "concurrent_tasks": "9"}
    assert client.post(address, given).status_code == 302
    alice.refresh_from_db()
    assert (alice.plan, alice.concurrent_tasks) == ("free", 9)
