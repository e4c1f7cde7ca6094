from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from asynccoder.lib import fields, redact
from asynccoder.tests import cpu

CANARY = "c4n@ry/with+odd=signs&ü"
ENCODED = {
    "plain": lambda secret: secret,
    "quoted": lambda secret: quote(secret, safe=""),
    "form": quote_plus,
    "hex": lambda secret: secret.encode().hex(),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "basic": lambda secret: base64.b64encode(f"x-access-token:{secret}".encode()).decode(),
    "shifted": lambda secret: base64.b64encode(f"ab{secret}cd".encode()).decode(),
    "url base64": lambda secret: base64.urlsafe_b64encode(f"a{secret}".encode()).decode(),
    "json": json.dumps,
    "repr": lambda secret: repr(secret.encode()),
}


@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED)
def test_a_registered_secret_is_masked_in_every_form(encode: object) -> None:
    shown = f"before {encode(CANARY)} after"  # type: ignore[operator] # a function of the table
    redact.forget(CANARY)
    assert redact.text(shown) == shown
    redact.register(CANARY)
    masked = redact.text(shown)
    assert "***" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    inner = encode(CANARY)[8:-8]  # type: ignore[operator] # a function of the table
    assert inner not in masked


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-" + "a1B2" * 20,
        "sk-proj-" + "a1B2" * 10,
        "sk_live_" + "a1B2" * 6,
        "whsec_" + "a1B2" * 8,
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2" * 10,
        "glpat-" + "a1B2" * 5,
        "AKIA" + "ABCD" * 4,
        "AIza" + "a1B2" * 9,
        "xoxb-" + "123456" * 3,
        "ac_AbCd1234_" + "a1B2" * 10 + "abc",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEabc that was cut",
    ],
)
def test_the_shapes_of_foreign_secrets_are_masked(secret: str) -> None:
    assert redact.text(f"key: {secret}") == "key: ***"


@pytest.mark.parametrize(
    ("given", "masked"),
    [
        ("https://bob:hunter2@host/x", "https://***@host/x"),
        ("https://:tok-en@host/x", "https://***@host/x"),
        ("GET /ws?token=abc.def&after=1", "GET /ws?token=***&after=1"),
        ("GET /ws?after=1&token=abc HTTP/1.1", "GET /ws?after=1&token=*** HTTP/1.1"),
        ("Authorization: Bearer abcdefgh123", "Authorization: Bearer ***"),
        ("authorization: basic YWJjOmRlZg==", "authorization: basic ***"),
    ],
)
def test_what_is_secret_by_its_place_is_masked(given: str, masked: str) -> None:
    assert redact.text(given) == masked


@pytest.mark.parametrize(
    "harmless",
    [
        "def sk_learn(): ...",
        "https://example.org/path?x=1@2",
        "git@github.com:owner/repo.git",
        "a bearer of news",
        "uses bearer authentication",
        "class='sk-text-repr-fallback'",
        "commit 3f786850e387550fdaadf8a2e3d9fba1b2c3d4e5",
        "12:30:45 user@example.com said: ok",
        "",
    ],
)
def test_ordinary_text_is_left_alone(harmless: str) -> None:
    assert redact.text(harmless) == harmless


def test_short_texts_are_no_secrets() -> None:
    redact.register("main")
    redact.register("")
    assert redact.text("on main") == "on main"


def test_a_secret_within_a_secret_leaves_no_rest() -> None:
    redact.register("inner-canary")
    redact.register("inner-canary-outer")
    assert redact.text("x inner-canary-outer y") == "x *** y"


def test_the_oldest_secrets_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(redact._live)
    monkeypatch.setattr(redact, "MOST", len(before) + 2)
    names = [f"canary-number-{n}" for n in range(4)]
    for name in names:
        redact.register(name)
    assert redact.text(" ".join(names[-2:])) == "*** ***"
    for name in names:
        redact.forget(name)
    for name in before:
        redact.register(name)


def test_no_number_of_other_secrets_makes_the_instances_own_forgotten() -> None:
    before = list(redact._live)
    for number in range(redact.MOST + 1):
        redact.register(f"a-users-secret-{number}")
    assert redact.text(f"<{settings.SECRET_KEY}>") == "<***>"
    redact._live.clear()
    for name in before:
        redact.register(name)


def test_what_was_unsealed_is_masked_from_then_on() -> None:
    sealed = fields.seal("canary-under-seal", context="a")
    redact.forget("canary-under-seal")
    assert redact.text("canary-under-seal") == "canary-under-seal"
    fields.unseal(sealed, context="a")
    assert redact.text("canary-under-seal") == "***"


def test_the_secrets_of_the_instance_are_known_from_the_start() -> None:
    keys = [entry.partition(":")[2] for entry in settings.FIELD_ENCRYPTION_KEYS]
    for secret in [settings.SECRET_KEY, settings.JWT_SECRET, *keys]:
        assert redact.text(f"<{secret}>") == "<***>"


@given(st.text())
def test_any_text_survives(value: str) -> None:
    assert isinstance(redact.text(value), str)


def test_a_long_text_takes_no_long_time() -> None:
    with cpu.at_most(5):
        for hostile in (
            "://" + "a" * 200_000,
            "eyJ" * 70_000,
            "-----BEGIN " * 20_000,
            "a:" * 100_000,
        ):
            redact.text(hostile)
