"""The page of a user's credits, and the ledger in the admin."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import User
from billing.models import CreditAccount, LedgerEntry
from billing.tests.make import give


def test_the_page_needs_a_sign_in(page: Client, db: None) -> None:
    assert page.get("/billing/").status_code == 302


def test_the_page_shows_ones_own_entries_with_their_reference(
    page: Client, alice: User, mallory: User
) -> None:
    give(alice, 42)
    give(mallory, 13)
    page.force_login(alice)
    html = page.get("/billing/").content.decode()
    assert "42" in html
    assert LedgerEntry.objects.get(account__user=alice).reference in html
    assert LedgerEntry.objects.get(account__user=mallory).reference not in html


@pytest.mark.parametrize("name", ["creditaccount", "credithold", "ledgerentry"])
def test_the_admin_shows_the_ledger_and_changes_nothing(
    page: Client, staff: User, alice: User, name: str
) -> None:
    give(alice, 5)
    page.force_login(staff)
    assert page.get(f"/admin/billing/{name}/").status_code == 200
    assert page.get(f"/admin/billing/{name}/add/").status_code == 403
    pk = {
        "creditaccount": CreditAccount.objects.get(user=alice).pk,
        "ledgerentry": LedgerEntry.objects.get(account__user=alice).pk,
    }.get(name)
    if pk is not None:
        assert page.get(f"/admin/billing/{name}/{pk}/change/").status_code == 200
        assert page.post(f"/admin/billing/{name}/{pk}/change/", {}).status_code == 403
        assert page.post(f"/admin/billing/{name}/{pk}/delete/", {}).status_code == 403
