"""GET /api/v1/users/credits, the transactions and the plans, in both dialects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from rest_framework.test import APIClient

from accounts.models import User
from billing import ledger
from billing.tests.make import CREDIT, give

TRANSACTIONS = "/api/users/me/credits/transactions"
ROUTES = [
    "/api/v1/users/credits",
    "/api/v1/users/credits/transactions",
    "/api/v1/billing/plans",
    TRANSACTIONS,
]


@pytest.fixture
def spent(alice: User) -> User:
    """Return alice after a task: granted 100, held 25, charged 10, the rest released."""
    give(alice, 100)
    ledger.hold(user_id=alice.pk, microcredits=25 * CREDIT, reference="task:1", description="Held")
    ledger.charge(
        hold_reference="task:1",
        microcredits=10 * CREDIT,
        reference="task:1:call:1",
        description="Task execution",
    )
    ledger.release(hold_reference="task:1")
    return alice


def transactions(api: APIClient, **query: Any) -> list[dict[str, Any]]:
    answer = api.get(TRANSACTIONS, query)
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["data"]["transactions"]
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_anonymous_gets_401(api: APIClient, db: None, route: str) -> None:
    assert api.get(route).status_code == 401


@pytest.mark.parametrize("route", ROUTES)
def test_a_viewer_may_look(api: APIClient, victor: User, route: str) -> None:
    api.force_authenticate(victor)
    assert api.get(route).status_code == 200


def test_the_balance_says_what_is_free_held_and_spent(api: APIClient, spent: User) -> None:
    ledger.hold(user_id=spent.pk, microcredits=500_000, reference="task:2", description="")
    api.force_authenticate(spent)
    assert api.get("/api/v1/users/credits").json() == {
        "credits": 89.5,
        "held_credits": 0.5,
        "total_credits_used": 10,
        "subscription_tier": "free",
    }


def test_transactions_have_the_published_shape(api: APIClient, spent: User) -> None:
    api.force_authenticate(spent)
    body = api.get(TRANSACTIONS).json()
    assert body["success"] is True
    assert body["meta"] == {"page": 1, "limit": 20, "total": 2, "totalPages": 1}
    assert {"total": 2, "page": 1, "limit": 20}.items() <= body["data"].items()
    newest = body["data"]["transactions"][0]
    published = {
        "type": "debit",
        "amount": -10,
        "description": "Task execution",
        "balanceAfter": 90,
    }
    assert published.items() <= newest.items()
    assert {"id", "createdAt"} <= newest.keys()
    assert (newest["kind"], newest["reference"]) == ("charge", "task:1:call:1")


def test_the_amounts_add_up_to_what_the_user_has(api: APIClient, spent: User) -> None:
    api.force_authenticate(spent)
    assert sum(entry["amount"] for entry in transactions(api)) == 90


def test_holds_and_releases_are_shown_when_asked_for(api: APIClient, spent: User) -> None:
    api.force_authenticate(spent)
    (hold,) = transactions(api, kind="hold")
    assert (hold["amount"], hold["heldChange"], hold["freeAfter"]) == (0, 25, 75)
    assert hold["type"] == "debit"
    (release,) = transactions(api, kind="release")
    assert (release["type"], release["heldChange"]) == ("credit", -15)


@pytest.mark.parametrize(("type_", "kinds"), [("credit", ["grant"]), ("debit", ["charge"])])
def test_transactions_are_filtered_by_type(
    api: APIClient, spent: User, type_: str, kinds: list[str]
) -> None:
    api.force_authenticate(spent)
    found = transactions(api, type=type_)
    assert [entry["kind"] for entry in found] == kinds
    assert {entry["type"] for entry in found} == {type_}


def test_every_entry_is_credit_or_debit_as_its_filter_says(spent: User) -> None:
    from billing.models import LedgerEntry

    entries = LedgerEntry.objects.visible_to(spent)
    for type_ in ("credit", "debit"):
        assert {entry.type for entry in entries.of_type(type_)} == {type_}
    assert entries.of_type("credit").count() + entries.of_type("debit").count() == 4


def test_transactions_are_filtered_by_time_with_the_end_included(
    api: APIClient, alice: User
) -> None:
    api.force_authenticate(alice)
    start = datetime(2026, 1, 30, 12, tzinfo=UTC)
    for day in range(3):
        with time_machine.travel(start + timedelta(days=day), tick=False):
            give(alice, 1)
    assert len(transactions(api, startDate="2026-01-31")) == 2
    assert len(transactions(api, endDate="2026-01-31")) == 2
    assert len(transactions(api, startDate="2026-01-31", endDate="2026-01-31")) == 1
    assert len(transactions(api, startDate="2026-01-31T12:00:00Z")) == 2
    assert len(transactions(api, startDate="2026-01-31T14:00:01+02:00")) == 1


@pytest.mark.parametrize(
    "query",
    [
        {"type": "gift"},
        {"kind": "theft"},
        {"startDate": "yesterday"},
        {"endDate": "2026-13-01"},
        {"endDate": "2026-02-30T00:00:00Z"},
        {"limit": "0"},
        {"page": "x"},
    ],
)
def test_a_filter_that_means_nothing_is_refused(
    api: APIClient, alice: User, query: dict[str, str]
) -> None:
    api.force_authenticate(alice)
    answer = api.get(TRANSACTIONS, query)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "VALIDATION_ERROR"


def test_nobody_sees_anothers_transactions_not_even_staff_under_me(
    api: APIClient, spent: User, mallory: User, staff: User
) -> None:
    for user in (mallory, staff):
        api.force_authenticate(user)
        assert transactions(api) == []


def test_pages_of_transactions_neither_repeat_nor_skip(api: APIClient, alice: User) -> None:
    for _ in range(7):
        give(alice, 1)
    api.force_authenticate(alice)
    seen = [e["reference"] for page in (1, 2, 3) for e in transactions(api, page=page, limit=3)]
    assert len(seen) == len(set(seen)) == 7


def test_a_page_of_transactions_takes_two_queries(
    api: APIClient, spent: User, django_assert_num_queries: Any
) -> None:
    api.force_authenticate(spent)
    with django_assert_num_queries(2):
        transactions(api)


def test_the_plain_dialect_pages_by_offset(api: APIClient, spent: User) -> None:
    api.force_authenticate(spent)
    body = api.get("/api/v1/users/credits/transactions?limit=1&offset=1").json()
    assert {"total": 2, "limit": 1, "offset": 1}.items() <= body.items()
    assert body["transactions"][0]["kind"] == "grant"


def test_the_plans_are_listed_by_price(api: APIClient, alice: User) -> None:
    api.force_authenticate(alice)
    plans = api.get("/api/v1/billing/plans").json()["plans"]
    assert [plan["id"] for plan in plans] == ["free", "pro", "enterprise"]
    assert (plans[0]["requests_per_hour"], plans[1]["requests_per_hour"]) == (100, 1000)
