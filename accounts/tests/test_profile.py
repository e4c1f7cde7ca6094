from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from accounts.models import User

PLAIN = ["/api/v1/users/profile", "/api/v1/users/me"]
ENVELOPE = "/api/users/me"


@pytest.mark.parametrize("path", PLAIN)
def test_the_plain_profile_is_the_data_itself(alice_api: APIClient, alice: User, path: str) -> None:
    body = alice_api.get(path).json()
    assert (body["id"], body["email"], body["name"]) == (str(alice.pk), alice.email, "alice")
    assert {"credits", "total_credits_used", "subscription_tier", "created_at"} <= body.keys()
    assert {"password", "is_staff", "token_version"}.isdisjoint(body)


def test_the_shared_profile_is_the_envelope_with_seed_4_beside_it(
    alice_api: APIClient, alice: User
) -> None:
    body = alice_api.get(ENVELOPE).json()
    assert body["success"] is True
    assert {
        "id",
        "email",
        "username",
        "displayName",
        "avatarUrl",
        "credits",
        "totalCreditsUsed",
        "subscriptionTier",
        "isGithubConnected",
        "createdAt",
        "updatedAt",
    } <= body["data"].keys()
    assert body["id"] == body["data"]["id"] == str(alice.pk)
    assert {"email", "name", "created_at", "updated_at"} <= body.keys()


@pytest.mark.parametrize(
    ("path", "given"),
    [
        (ENVELOPE, {"displayName": "New", "avatarUrl": "https://example.com/a.png"}),
        (ENVELOPE, {"name": "New", "email": "new@example.com"}),
        (PLAIN[0], {"name": "New"}),
        (PLAIN[1], {"display_name": "New", "name": "ignored"}),
    ],
)
def test_what_is_given_changes_and_nothing_else(
    alice_api: APIClient, alice: User, path: str, given: dict[str, str]
) -> None:
    assert alice_api.put(path, given).status_code == 200
    before = alice.email
    alice.refresh_from_db()
    assert alice.display_name == "New"
    assert alice.email == given.get("email", before)
    assert alice.avatar_url == given.get("avatarUrl", "")


def test_what_an_account_may_not_change_of_itself_stays(alice_api: APIClient, alice: User) -> None:
    before: dict[str, Any] = {**User.objects.filter(pk=alice.pk).values().get()}
    forbidden = dict.fromkeys(before, 9) | {"role": "admin", "credits": 10**9, "plan": "pro"}
    for name in ("email", "display_name", "avatar_url", "name"):
        forbidden.pop(name, None)
    assert alice_api.put(PLAIN[0], forbidden).status_code == 200
    after: dict[str, Any] = {**User.objects.filter(pk=alice.pk).values().get()}
    assert {name for name in before if before[name] != after[name]} <= {"updated_at"}


@pytest.mark.parametrize(
    "given",
    [
        {"email": "nobody"},
        {"email": ""},
        {"email": None},
        {"avatar_url": "javascript:alert(1)"},
        {"avatar_url": "ftp://example.com/a"},
        {"avatar_url": "data:image/svg+xml,x"},
        {"display_name": "x" * 151},
        {"display_name": None},
        {"name": {"a": 1}},
    ],
)
def test_bad_values_are_refused(alice_api: APIClient, given: dict[str, Any]) -> None:
    assert alice_api.put(PLAIN[0], given).status_code == 400


def test_another_accounts_address_is_a_conflict(
    alice_api: APIClient, alice: User, mallory: User
) -> None:
    response = alice_api.put(PLAIN[0], {"email": "MALLORY@example.com"})
    assert (response.status_code, response.json()["code"]) == (409, "CONFLICT")
    alice.refresh_from_db()
    assert alice.email == "alice@example.com"


def test_addresses_are_tried_no_more_often_than_by_signing_up(
    alice_api: APIClient, mallory: User, settings: Any
) -> None:
    settings.RATELIMIT_ENABLE = True
    cache = {**settings.CACHES["default"], "KEY_PREFIX": f"{settings.REDIS_PREFIX}:{uuid4()}"}
    settings.CACHES = {"default": cache}

    def tried(email: str) -> int:
        return int(alice_api.put(PLAIN[0], {"email": email}).status_code)

    assert [tried(mallory.email) for _ in range(5)] == [409] * 5
    assert tried(mallory.email) == tried("nobody@example.com") == 429
    assert tried("ALICE@example.com") == 200, "the own one tells nothing"
    assert alice_api.put(PLAIN[0], {"name": "New"}).status_code == 200


def test_the_own_address_in_another_case_is_none(alice_api: APIClient) -> None:
    assert alice_api.put(PLAIN[0], {"email": "Alice@example.com"}).status_code == 200


@pytest.mark.parametrize("path", [*PLAIN, ENVELOPE])
def test_nobody_has_no_profile(api: APIClient, db: None, path: str) -> None:
    assert api.get(path).status_code == 401
    assert api.put(path, {"name": "x"}).status_code == 401


def test_everyone_sees_the_own_profile_only(
    alice_api: APIClient, mallory_api: APIClient, staff_api: APIClient
) -> None:
    names = [api.get(PLAIN[0]).json()["username"] for api in (alice_api, mallory_api, staff_api)]
    assert names == ["alice", "mallory", "staff"]


def test_a_viewer_has_a_profile_of_its_own_to_change(victor_api: APIClient) -> None:
    assert victor_api.put(PLAIN[0], {"name": "Victor"}).json()["name"] == "Victor"
