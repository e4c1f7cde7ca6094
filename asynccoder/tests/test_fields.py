from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccoder.lib import fields
from asynccoder.lib.fields import SealBroken, Secret, key_id, reseal, seal, unseal

OLD = "old:0123456789abcdef0123456789abcdef"
NEW = "new:fedcba9876543210fedcba9876543210"


@pytest.fixture(autouse=True)
def _keys(settings: Any) -> None:
    settings.FIELD_ENCRYPTION_KEYS = [OLD]


@given(st.text(), st.text())
def test_what_was_sealed_opens_in_its_context(plain: str, context: str) -> None:
    assert unseal(seal(plain, context=context), context=context) == plain


def test_sealed_text_hides_the_plain_one_and_differs_each_time() -> None:
    first, second = seal("sk-canary", context="a"), seal("sk-canary", context="a")
    assert "canary" not in first
    assert first != second


def test_a_sealed_text_moved_to_another_row_does_not_open() -> None:
    sealed = seal("sk-canary", context="provider-key:1:alice")
    assert unseal(sealed, context="provider-key:1:alice") == "sk-canary"
    with pytest.raises(SealBroken, match="moved"):
        unseal(sealed, context="provider-key:2:mallory")


def test_an_altered_text_does_not_open() -> None:
    sealed = seal("sk-canary", context="a")
    for place in range(len("v1:old:"), len(sealed)):
        letter = "A" if sealed[place] != "A" else "B"
        with pytest.raises(SealBroken):
            unseal(sealed[:place] + letter + sealed[place + 1 :], context="a")


def test_after_rotation_old_texts_open_and_new_ones_use_the_first_key(settings: Any) -> None:
    sealed = seal("sk-canary", context="a")
    settings.FIELD_ENCRYPTION_KEYS = [NEW, OLD]
    assert unseal(sealed, context="a") == "sk-canary"
    moved = reseal(sealed, context="a")
    assert (key_id(sealed), key_id(moved)) == ("old", "new")
    assert reseal(moved, context="a") == moved
    settings.FIELD_ENCRYPTION_KEYS = [NEW]
    assert unseal(moved, context="a") == "sk-canary"


def test_a_missing_key_is_named(settings: Any) -> None:
    sealed = seal("sk-canary", context="a")
    settings.FIELD_ENCRYPTION_KEYS = [NEW]
    with pytest.raises(SealBroken, match="no key named 'old'"):
        unseal(sealed, context="a")


def test_another_key_of_the_same_name_does_not_open(settings: Any) -> None:
    sealed = seal("sk-canary", context="a")
    settings.FIELD_ENCRYPTION_KEYS = ["old:another-key-of-the-same-name-here"]
    with pytest.raises(SealBroken):
        unseal(sealed, context="a")


@pytest.mark.parametrize(
    "text", ["", "plain", "v1:", "v1:old:", "v2:old:AAAA", "v1:old:!!", "v1:old:AAAA"]
)
def test_what_was_never_sealed_is_refused(text: str) -> None:
    with pytest.raises(SealBroken):
        unseal(text, context="a")


@pytest.mark.parametrize("keys", [[], ["nokey"], [":key"], ["a:short"], [OLD, OLD]])
def test_malformed_keys_are_refused(settings: Any, keys: list[str]) -> None:
    settings.FIELD_ENCRYPTION_KEYS = keys
    with pytest.raises(ValueError, match="FIELD_ENCRYPTION_KEYS"):
        seal("x", context="a")


def test_a_secret_never_shows_itself() -> None:
    secret = Secret("sk-canary")
    assert secret.reveal() == "sk-canary"
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>8}",
        "%s" % secret,  # noqa: UP031 - the old way of formatting is under test too
        repr([secret]),
    ]
    assert not any("canary" in text for text in shown)
    assert secret == Secret("sk-canary") != Secret("other")
    assert secret != "sk-canary"
    assert not Secret("")


@pytest.mark.parametrize("copier", [pickle.dumps, copy.deepcopy])
def test_a_secret_is_not_serialised(copier: Any) -> None:
    with pytest.raises(TypeError, match="not serialised"):
        copier(Secret("sk-canary"))


def test_the_module_keeps_no_key_in_its_names() -> None:
    assert not [name for name in vars(fields) if name.isupper() and "KEY" in name]
