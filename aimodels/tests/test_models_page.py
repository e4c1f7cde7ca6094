"""The page of models and keys."""

from __future__ import annotations

from django.test import Client

from accounts.models import User
from aimodels import keys
from aimodels.models import ProviderKey
from aimodels.tests.make import make_model

PLAIN = "sk-test-0123456789abcdefWXYZ"
ADDED = {"provider": "openai", "name": "work", "key": PLAIN}


def test_the_page_needs_a_sign_in(page: Client, db: None) -> None:
    assert page.get("/models/").status_code == 302


def test_the_page_shows_prices_and_what_is_ready(page: Client, alice: User) -> None:
    make_model("dear", input_price="0.0000075")
    make_model("odd", input_price=None)
    page.force_login(alice)
    html = page.get("/models/").content.decode()
    assert "Built-in engine" in html
    assert "7.5" in html
    assert "unknown" in html
    assert "needs a key" in html


def test_a_key_is_added_shown_masked_and_removed(page: Client, alice: User) -> None:
    page.force_login(alice)
    html = page.post("/models/", ADDED, follow=True).content.decode()
    assert "••••WXYZ" in html
    assert PLAIN not in html
    key = ProviderKey.objects.get(user=alice)
    assert keys.reveal(key).reveal() == PLAIN
    page.post(f"/models/keys/{key.pk}/remove/")
    assert not ProviderKey.objects.exists()


def test_a_key_that_is_none_is_refused_and_not_repeated(page: Client, alice: User) -> None:
    page.force_login(alice)
    answer = page.post("/models/", ADDED | {"key": "sk-canary ü"})
    assert answer.status_code == 422
    assert "canary" not in answer.content.decode()
    assert not ProviderKey.objects.exists()


def test_a_viewer_adds_nothing(page: Client, victor: User) -> None:
    page.force_login(victor)
    assert page.get("/models/").status_code == 200
    assert page.post("/models/", ADDED).status_code == 403
    assert not ProviderKey.objects.exists()


def test_a_stranger_removes_nothing(page: Client, alice: User, mallory: User) -> None:
    key = keys.add(user=alice, provider="openai", plain=PLAIN)
    page.force_login(mallory)
    assert "WXYZ" not in page.get("/models/").content.decode()
    assert page.post(f"/models/keys/{key.pk}/remove/").status_code == 404
    assert ProviderKey.objects.filter(pk=key.pk).exists()
