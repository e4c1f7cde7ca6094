"""What a new account gets, and the operators' commands."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from billing import ledger
from billing.accounts import credits_of, on_account_created
from billing.models import LedgerEntry, SubscriptionPlan
from billing.tests.make import CREDIT, assert_books_balance, give


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_a_new_account_is_granted_its_credits_once(alice: User, settings: Any) -> None:
    settings.SIGNUP_CREDITS = 100
    on_account_created(alice)
    on_account_created(alice)
    assert credits_of(alice) == {"credits": 100, "held_credits": 0, "total_credits_used": 0}


def test_no_sign_up_credits_is_a_setting_too(alice: User, settings: Any) -> None:
    settings.SIGNUP_CREDITS = 0
    on_account_created(alice)
    assert credits_of(alice)["credits"] == 0
    assert not LedgerEntry.objects.exists()


def test_a_new_account_gets_what_its_plan_allows(alice: User) -> None:
    SubscriptionPlan.objects.filter(slug="free").update(concurrent_tasks=7)
    on_account_created(alice)
    alice.refresh_from_db()
    assert alice.concurrent_tasks == 7


def test_without_its_plan_an_account_is_opened_all_the_same(alice: User) -> None:
    SubscriptionPlan.objects.all().delete()
    on_account_created(alice)
    assert credits_of(alice)["credits"] == 100


def test_setcredits_brings_the_balance_there_by_an_adjustment(alice: User) -> None:
    give(alice, 10)
    assert "has 250.5 credits (+240.5)" in run("setcredits", alice.email.upper(), "250.5")
    assert ledger.balance(alice.pk).balance == 250_500_000
    assert "(-250.5)" in run("setcredits", alice.email, "0")
    adjustments = LedgerEntry.objects.filter(kind="adjustment")
    assert [entry.balance_change for entry in adjustments.order_by("sequence")] == [
        240_500_000,
        -250_500_000,
    ]
    assert_books_balance(alice)


def test_setcredits_leaves_what_tasks_hold(alice: User) -> None:
    give(alice, 10)
    ledger.hold(user_id=alice.pk, microcredits=4 * CREDIT, reference="task:1", description="")
    assert "4 held" in run("setcredits", alice.email, "0")
    assert ledger.balance(alice.pk).held == 4 * CREDIT


def test_setcredits_to_what_it_is_writes_nothing(alice: User) -> None:
    give(alice, 10)
    run("setcredits", alice.email, "10")
    assert not LedgerEntry.objects.filter(kind="adjustment").exists()


@pytest.mark.parametrize("amount", ["-1", "0.0000001", "nan", "inf", "lots", "1e30"])
def test_setcredits_refuses_what_is_no_amount(alice: User, amount: str) -> None:
    with pytest.raises(CommandError, match="AMOUNT"):
        run("setcredits", "--", alice.email, amount)


def test_commands_refuse_an_unknown_address(db: None) -> None:
    for command in ("setcredits", "setplan"):
        with pytest.raises(CommandError, match="no account"):
            run(command, "nobody@example.com", "5")


def test_setplan_applies_what_the_plan_allows(alice: User) -> None:
    assert "Pro" in run("setplan", alice.email, "pro")
    alice.refresh_from_db()
    assert (alice.plan, alice.concurrent_tasks) == ("pro", 5)


def test_setplan_names_the_plans_there_are(alice: User) -> None:
    with pytest.raises(CommandError, match=r"free, pro, enterprise"):
        run("setplan", alice.email, "gold")
    SubscriptionPlan.objects.filter(slug="pro").update(is_active=False)
    with pytest.raises(CommandError):
        run("setplan", alice.email, "pro")
