"""What an account used of its plan, and paying for another one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from asynccoder.lib.errors import OutOfCredit
from billing import ledger, limits, plans
from billing.models import SubscriptionPlan, SubscriptionUsage
from billing.tests.make import CREDIT, give

USAGE = "/api/v1/billing/usage"
SUBSCRIBE = "/api/v1/billing/subscribe"


def spend(user: User, credits: int, *, task: str) -> None:
    """Hold, charge and release as a task does."""
    reference = f"task:{task}"
    amount = credits * CREDIT
    ledger.hold(user_id=user.pk, microcredits=2 * amount, reference=reference, description="")
    for _ in range(2):
        # The second time it is known already.
        ledger.charge(
            hold_reference=reference,
            microcredits=amount,
            reference=f"{reference}:call:1",
            description="",
        )
    ledger.release(hold_reference=reference)


def test_a_month_counts_work_charges_and_refunds_once(alice: User) -> None:
    give(alice, 100)
    spend(alice, 5, task="1")
    spend(alice, 3, task="2")
    for _ in range(2):
        ledger.hold(user_id=alice.pk, microcredits=0, reference="task:3", description="")
        ledger.refund(user_id=alice.pk, microcredits=CREDIT, reference="back", description="")
    row = SubscriptionUsage.objects.get()
    assert (row.user, row.plan, row.holds, row.charges) == (alice, "free", 3, 2)
    assert (row.charged_microcredits, row.refunded_microcredits) == (8 * CREDIT, CREDIT)
    assert row.used_microcredits == ledger.balance(alice.pk).spent


def test_what_is_undone_is_not_counted(alice: User) -> None:
    give(alice, 1)
    with pytest.raises(OutOfCredit):
        ledger.hold(user_id=alice.pk, microcredits=2 * CREDIT, reference="task:1", description="")
    assert not SubscriptionUsage.objects.exists()


def test_the_usage_is_shown_by_day_and_by_month(alice_api: APIClient, alice: User) -> None:
    with time_machine.travel(datetime(2026, 1, 31, 23, 59, tzinfo=UTC)):
        give(alice, 100)
        spend(alice, 5, task="1")
    with time_machine.travel(datetime(2026, 2, 1, 0, 1, tzinfo=UTC)):
        spend(alice, 3, task="2")
    with time_machine.travel(datetime(2026, 2, 3, 12, tzinfo=UTC)):
        spend(alice, 2, task="3")
        alice_api.logout()
        alice_api.force_authenticate(alice)
        body = alice_api.get(USAGE).json()
    assert body["plan"]["id"] == "free"
    assert body["period"] == {"start": "2026-02-01", "end": "2026-02-28"}
    assert (body["credits"], body["held_credits"], body["total_credits_used"]) == (90, 0, 10)
    used = {"month": "2026-02", "plan": "free", "tasks": 2, "charges": 2}
    assert body["usage"] == used | {"credits_used": 5, "credits_refunded": 0}
    assert body["days"] == [
        {"day": "2026-02-01", "credits_used": 3},
        {"day": "2026-02-03", "credits_used": 2},
    ]
    assert [(row["month"], row["credits_used"]) for row in body["history"]] == [
        ("2026-02", 5),
        ("2026-01", 5),
    ]
    january = alice_api.get(f"{USAGE}?month=2026-01").json()
    assert (january["usage"]["tasks"], january["days"]) == (
        1,
        [{"day": "2026-01-31", "credits_used": 5}],
    )
    assert alice_api.get(f"{USAGE}?month=2025-07").json()["usage"]["credits_used"] == 0


@pytest.mark.parametrize("month", ["2026-13", "x", "2026-01-01", "0000-01"])
def test_what_is_no_month_is_refused(alice_api: APIClient, month: str) -> None:
    assert alice_api.get(f"{USAGE}?month={month}").status_code == 400


@pytest.mark.parametrize("month", ["0001-01", "9999-12", "9999-11"])
def test_the_ends_of_time_are_months_too(alice_api: APIClient, month: str) -> None:
    assert alice_api.get(f"{USAGE}?month={month}").status_code == 200


def test_everyone_sees_the_own_usage_only(
    mallory_api: APIClient, staff_api: APIClient, victor_api: APIClient, alice: User
) -> None:
    give(alice, 100)
    spend(alice, 5, task="1")
    for other in (mallory_api, staff_api, victor_api):
        body = other.get(USAGE).json()
        assert (body["usage"]["credits_used"], body["usage"]["tasks"]) == (0, 0)
        assert (body["days"], body["history"]) == ([], [])


def test_nobody_has_no_usage_and_pays_for_nothing(api: APIClient, db: None) -> None:
    assert api.get(USAGE).status_code == 401
    assert api.post(SUBSCRIBE, {"plan": "pro"}).status_code == 401


def test_without_the_setting_paying_is_503_and_names_it(
    alice_api: APIClient, mallory_api: APIClient, alice: User, settings: Any
) -> None:
    settings.STRIPE_SECRET_KEY = ""
    for client in (alice_api, mallory_api):
        answer = client.post(SUBSCRIBE, {"plan": "pro"})
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert "STRIPE_SECRET_KEY" in answer.json()["message"]
        assert answer.json()["details"] == {"setting": "STRIPE_SECRET_KEY"}
    alice.refresh_from_db()
    assert alice.plan == "free"


def test_with_the_setting_nobody_is_put_on_a_plan_unpaid(
    alice_api: APIClient, alice: User, settings: Any
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_0123456789abcdef"
    answer = alice_api.post(SUBSCRIBE, {"plan": "pro"})
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert "not part of this version" in answer.json()["message"]
    assert "sk_test" not in answer.content.decode()
    alice.refresh_from_db()
    assert alice.plan == "free"


@pytest.mark.parametrize(
    "given", [{}, {"plan": ""}, {"plan": "gold"}, {"plan": ["pro"]}, {"plan": "a b"}]
)
def test_a_plan_that_there_is_not_is_refused(alice_api: APIClient, given: dict[str, Any]) -> None:
    assert alice_api.post(SUBSCRIBE, given).status_code == 400


def test_a_plan_that_is_switched_off_is_not_sold(alice_api: APIClient) -> None:
    SubscriptionPlan.objects.filter(slug="pro").update(is_active=False)
    assert alice_api.post(SUBSCRIBE, {"plan": "pro"}).status_code == 400


def test_a_viewer_subscribes_to_nothing(victor_api: APIClient) -> None:
    assert victor_api.post(SUBSCRIBE, {"plan": "pro"}).status_code == 403


def test_accounts_follow_what_staff_make_of_their_plan(alice: User, mallory: User) -> None:
    for user in (alice, mallory):
        plans.put_on_plan(user, "pro")
    User.objects.filter(pk=mallory.pk).update(concurrent_tasks=9)
    pro = SubscriptionPlan.objects.get(slug="pro")
    assert limits.of_plan("pro").concurrent_tasks == 5  # type: ignore[union-attr] # there is one
    pro.concurrent_tasks = 7
    plans.change(pro)
    alice.refresh_from_db()
    mallory.refresh_from_db()
    assert (alice.concurrent_tasks, mallory.concurrent_tasks) == (7, 9)
    assert limits.of_plan("pro").concurrent_tasks == 7  # type: ignore[union-attr] # there is one


def test_staff_change_plans_and_read_the_usage_in_the_admin(
    client: Client, staff: User, alice: User
) -> None:
    give(alice, 100)
    spend(alice, 5, task="1")
    plans.put_on_plan(alice, "pro")
    client.force_login(staff)
    page = client.get("/admin/billing/subscriptionusage/")
    assert page.status_code == 200
    assert "alice" in page.content.decode()
    address = "/admin/billing/subscriptionplan/pro/change/"
    form = {
        "name": "Pro", "description": "x", "price_usd": "20", "monthly_credits": "2000",
        "concurrent_tasks": "6", "requests_per_hour": "0", "tasks_per_hour": "10", "is_active": "on",
    }  # fmt: skip
    assert client.post(address, form).status_code == 200
    assert client.post(address, form | {"requests_per_hour": "5"}).status_code == 302
    alice.refresh_from_db()
    assert alice.concurrent_tasks == 6
