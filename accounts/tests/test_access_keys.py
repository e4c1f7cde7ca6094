from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import keys
from accounts.errors import KeyRefused
from accounts.models import AccessKey, User

PATH = "/api/v1/access-keys"
ME = "/api/v1/users/me"


def with_key(text: str) -> APIClient:
    api = APIClient()
    api.credentials(HTTP_X_API_KEY=text)
    return api


def test_a_key_is_shown_once_and_stored_hashed(alice_api: APIClient, alice: User) -> None:
    response = alice_api.post(PATH, {"name": "ci", "scopes": ["task:read"]})
    body = response.json()
    assert response.status_code == 201
    assert keys.FORM.fullmatch(body["key"])
    row = AccessKey.objects.get()
    assert (row.user, row.name, row.scopes) == (alice, "ci", ["task:read"])
    secret = body["key"].rpartition("_")[2]
    assert secret not in "".join(map(str, AccessKey.objects.values_list().get()))
    listed = alice_api.get(PATH)
    assert secret not in listed.content.decode()
    assert row.digest not in listed.content.decode()
    assert listed.json()["access_keys"][0]["prefix"] == row.prefix


def test_a_key_opens_its_accounts_routes(alice: User) -> None:
    _, text = keys.create(user=alice, name="ci")
    assert with_key(text).get(ME).json()["id"] == str(alice.pk)


def test_a_revoked_key_opens_nothing_and_stays_listed(alice_api: APIClient, alice: User) -> None:
    key, text = keys.create(user=alice, name="ci")
    assert alice_api.delete(f"{PATH}/{key.pk}").status_code == 200
    assert with_key(text).get(ME).status_code == 401
    assert alice_api.get(PATH).json()["access_keys"][0]["revoked_at"]
    first = AccessKey.objects.get().revoked_at
    assert alice_api.delete(f"{PATH}/{key.pk}").status_code == 200
    assert AccessKey.objects.get().revoked_at == first


def test_a_stranger_neither_sees_nor_revokes(
    mallory_api: APIClient, staff_api: APIClient, alice: User
) -> None:
    key, text = keys.create(user=alice, name="ci")
    for api in (mallory_api, staff_api):
        assert api.get(PATH).json()["total"] == 0
        assert api.delete(f"{PATH}/{key.pk}").status_code == 404
        assert api.delete(f"{PATH}/{uuid.uuid4()}").status_code == 404
    assert with_key(text).get(ME).status_code == 200


def test_nobody_manages_keys_without_signing_in_nor_with_a_key(api: APIClient, alice: User) -> None:
    key, text = keys.create(user=alice, name="ci")
    for client, code in ((api, 401), (with_key(text), 403)):
        assert client.get(PATH).status_code == code
        assert client.post(PATH, {"name": "more"}).status_code == code
        assert client.delete(f"{PATH}/{key.pk}").status_code == code


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text.upper(),
        lambda text: text.replace("ac_", "ak_"),
        lambda text: "ac_" + "x" * 8 + text[11:],
        lambda text: text[:12] + "x" * 43,
        lambda text: "",
        lambda text: f" {text}",
        lambda text: "%" * 55,
    ],
)
def test_no_other_text_is_the_key(alice: User, change: Any) -> None:
    _, text = keys.create(user=alice, name="ci")
    with pytest.raises(KeyRefused):
        keys.find(change(text))
    assert keys.find(text)


def test_an_expired_key_and_one_of_an_inactive_account_are_refused(alice: User) -> None:
    soon = timezone.now() + timedelta(hours=1)
    _, text = keys.create(user=alice, name="ci", expires_at=soon)
    with time_machine.travel(soon - timedelta(seconds=1)):
        assert with_key(text).get(ME).status_code == 200
    with time_machine.travel(soon + timedelta(seconds=1)):
        assert with_key(text).get(ME).status_code == 401
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert with_key(text).get(ME).status_code == 401


def test_the_last_use_is_kept_to_the_minute(alice: User, django_assert_num_queries: Any) -> None:
    key, text = keys.create(user=alice, name="ci")
    with time_machine.travel(timezone.now(), tick=False) as clock:
        keys.find(text)
        key.refresh_from_db()
        assert key.last_used_at == timezone.now()
        with django_assert_num_queries(1):
            keys.find(text)
        clock.shift(timedelta(seconds=61))
        keys.find(text)
        key.refresh_from_db()
        assert key.last_used_at == timezone.now()


def test_a_key_with_scopes_opens_what_they_name_only(alice: User) -> None:
    _, reader = keys.create(user=alice, name="reader", scopes=["task:read"])
    _, other = keys.create(user=alice, name="other", scopes=["build:read"])
    _, anything = keys.create(user=alice, name="anything")
    tasks = "/api/v1/tasks"
    assert with_key(reader).get(tasks).status_code == 200
    assert with_key(other).get(tasks).status_code == 403
    assert with_key(anything).get(tasks).status_code == 200
    assert with_key(reader).post(tasks, {}).status_code == 403
    assert with_key(anything).post(tasks, {}).status_code == 400
    assert with_key(reader).put(ME, {"name": "x"}).status_code == 403


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "ci", "scopes": ["everything"]},
        {"name": "ci", "scopes": "task:read"},
        {"name": "ci", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "ci", "expires_at": "soon"},
    ],
)
def test_bad_values_are_refused(alice_api: APIClient, given: dict[str, Any]) -> None:
    assert alice_api.post(PATH, given).status_code == 400


def test_what_a_client_may_not_choose_stays(
    alice_api: APIClient, alice: User, mallory: User
) -> None:
    given = {"name": "ci", "user": str(mallory.pk), "prefix": "chosen00", "digest": "0" * 64}
    body = alice_api.post(PATH, given | {"last_used_at": "2001-01-01T00:00:00Z"}).json()
    key = AccessKey.objects.get()
    assert (key.user, key.last_used_at) == (alice, None)
    assert key.prefix != "chosen00"
    assert keys.find(body["key"]).pk == key.pk


def test_a_viewers_key_only_reads(victor_api: APIClient) -> None:
    text = victor_api.post(PATH, {"name": "reader"}).json()["key"]
    assert with_key(text).get("/api/v1/tasks").status_code == 200
    assert with_key(text).post("/api/v1/tasks", {}).status_code == 403
