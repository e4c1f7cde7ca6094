"""Users' own keys at AI providers: sealed to their row and owner, shown masked, never returned."""

from __future__ import annotations

from accounts.models import User
from aimodels.errors import KeyRefused
from aimodels.models import KeyProvider, ProviderConfig, ProviderKey, ProviderKind
from asynccoder.lib import fields
from asynccoder.lib.fields import Rotation, Secret

MASK = "••••"
SHOWN = 4
LONGEST = 500
KEYED = (
    ProviderKind.ANTHROPIC,
    ProviderKind.OPENAI,
    ProviderKind.GEMINI,
    ProviderKind.CUSTOM,
)
"""Providers that take a key."""


def add(*, user: User, provider: str, plain: str, name: str = "") -> ProviderKey:
    """Store a key; the user's newest active key of a provider is the one that is used."""
    if provider not in KEYED:
        raise KeyRefused("This provider takes no key.")
    if KeyProvider.objects.filter(slug=provider, is_active=False).exists():
        raise KeyRefused("Keys of this provider are not taken here.")
    key = ProviderKey(user=user, provider=provider, name=name)
    _seal(key, plain)
    key.save()
    return key


def replace(key: ProviderKey, *, plain: str) -> ProviderKey:
    """Put another key in the same row."""
    _seal(key, plain)
    key.save(update_fields=["sealed_key", "masked", "updated_at"])
    return key


def edit(key: ProviderKey, *, name: str | None = None, is_active: bool | None = None) -> None:
    """Rename a key, or switch it on or off."""
    asked = {"name": name, "is_active": is_active}
    changes = {field: value for field, value in asked.items() if value is not None}
    for field, value in changes.items():
        setattr(key, field, value)
    key.save(update_fields=[*changes, "updated_at"])


def reveal(key: ProviderKey) -> Secret:
    """Open a key for a call to its provider."""
    return Secret(fields.unseal(key.sealed_key, context=_context(key)))


def configure(config: ProviderConfig, *, plain: str) -> ProviderConfig:
    """Store the platform's own key for a provider; an empty one clears it."""
    config.sealed_key = (
        fields.seal(cleaned(plain), context=_config_context(config)) if plain else ""
    )
    config.save()
    return config


def reveal_config(config: ProviderConfig) -> Secret:
    """Open the platform's key; empty when none is stored."""
    if not config.sealed_key:
        return Secret("")
    return Secret(fields.unseal(config.sealed_key, context=_config_context(config)))


def rotate_keys() -> Rotation:
    """Seal users' keys again under the newest encryption key."""
    return fields.rotate(ProviderKey.objects.all(), "sealed_key", _context)


def rotate_configs() -> Rotation:
    """Seal the platform's own keys again under the newest encryption key."""
    return fields.rotate(ProviderConfig.objects.all(), "sealed_key", _config_context)


def mask(plain: str) -> str:
    """Show the last four characters of a key, and none of one too short to spare them."""
    return MASK + (plain[-SHOWN:] if len(plain) >= 4 * SHOWN else "")


def _seal(key: ProviderKey, plain: str) -> None:
    text = cleaned(plain)
    key.sealed_key = fields.seal(text, context=_context(key))
    key.masked = mask(text)


def cleaned(plain: str) -> str:
    """Return the key without the blanks of copying; raise KeyRefused for what no header takes."""
    text = plain.strip()
    if not text or len(text) > LONGEST or not text.isascii() or not text.isprintable():
        raise KeyRefused
    return text


def _context(key: ProviderKey) -> str:
    return f"aimodels.ProviderKey:{key.pk}:{key.user_id}"


def _config_context(config: ProviderConfig) -> str:
    return f"aimodels.ProviderConfig:{config.provider}"
