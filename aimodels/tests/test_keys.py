"""Users' provider keys: sealed to their row, masked, rotated, never shown."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import User
from aimodels import keys
from aimodels.errors import KeyRefused
from aimodels.models import ProviderConfig, ProviderKey
from asynccoder.lib.fields import SealBroken

PLAIN = "sk-test-0123456789abcdefWXYZ"


def test_a_key_comes_back_as_it_went_in(alice: User) -> None:
    key = keys.add(user=alice, provider="openai", plain=f"  {PLAIN}\n")
    assert keys.reveal(ProviderKey.objects.get(pk=key.pk)).reveal() == PLAIN


def test_the_row_holds_neither_the_key_nor_more_than_four_of_its_characters(alice: User) -> None:
    keys.add(user=alice, provider="openai", plain=PLAIN)
    row = ProviderKey.objects.filter(user=alice).values().get()
    assert PLAIN not in str(row)
    assert row["masked"] == "••••WXYZ"
    assert keys.mask("short-key") == "••••"


def test_a_sealed_key_moved_to_another_user_does_not_open(alice: User, mallory: User) -> None:
    key = keys.add(user=alice, provider="openai", plain=PLAIN)
    stolen = keys.add(user=mallory, provider="openai", plain="sk-mallory-0123456789")
    ProviderKey.objects.filter(pk=stolen.pk).update(sealed_key=key.sealed_key)
    stolen.refresh_from_db()
    with pytest.raises(SealBroken):
        keys.reveal(stolen)
    assert keys.reveal(key).reveal() == PLAIN


def test_replacing_a_key_changes_its_mask(alice: User) -> None:
    key = keys.add(user=alice, provider="openai", plain=PLAIN)
    keys.replace(key, plain="sk-another-0123456789-9876")
    key.refresh_from_db()
    assert key.masked == "••••9876"
    assert keys.reveal(key).reveal() == "sk-another-0123456789-9876"


@pytest.mark.parametrize(
    "plain", ["", "   ", "with\nline", "kéy-0123456789", "k" * 501, "tab\tkey"]
)
def test_what_no_header_takes_is_refused(alice: User, plain: str) -> None:
    with pytest.raises(KeyRefused):
        keys.add(user=alice, provider="openai", plain=plain)
    assert not ProviderKey.objects.exists()


@pytest.mark.parametrize("provider", ["builtin", "aider", "nonsense"])
def test_a_provider_without_keys_takes_none(alice: User, provider: str) -> None:
    with pytest.raises(KeyRefused):
        keys.add(user=alice, provider=provider, plain=PLAIN)


def test_rotation_seals_every_key_anew(alice: User, settings: Any) -> None:
    old = list(settings.FIELD_ENCRYPTION_KEYS)
    key = keys.add(user=alice, provider="openai", plain=PLAIN)
    config = keys.configure(ProviderConfig(provider="openai"), plain="sk-platform-0123456789")
    settings.FIELD_ENCRYPTION_KEYS = ["new:abcdefghijklmnopqrstuvwxyz", *old]
    assert keys.rotate_keys().changed + keys.rotate_configs().changed == 2
    assert keys.rotate_keys().changed + keys.rotate_configs().changed == 0
    settings.FIELD_ENCRYPTION_KEYS = ["new:abcdefghijklmnopqrstuvwxyz"]
    key.refresh_from_db()
    config.refresh_from_db()
    assert keys.reveal(key).reveal() == PLAIN
    assert keys.reveal_config(config).reveal() == "sk-platform-0123456789"


def test_an_empty_platform_key_clears_it(db: None) -> None:
    config = keys.configure(ProviderConfig(provider="openai"), plain=PLAIN)
    assert keys.reveal_config(config)
    assert not keys.reveal_config(keys.configure(config, plain=""))
