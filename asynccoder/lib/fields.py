"""Secrets at rest: sealed with AES-GCM under a named key, bound to the row they belong to.

A sealed text is ``v1:<key id>:<base64 of nonce and ciphertext>``. The context (such as
``provider-key:<row id>:<user id>``) is authenticated with it: moved to another row it does not open.
A model field does not know its row, so models seal and open in their methods.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db.models import QuerySet

from asynccoder.lib import redact

NONCE_BYTES = 12
VERSION = "v1"


class SealBroken(Exception):
    """A sealed text does not open: altered, moved to another row, or its key is gone."""


class Secret:
    """A text that shows itself only when asked by name."""

    __slots__ = ("_plain",)

    def __init__(self, plain: str) -> None:
        self._plain = plain

    def reveal(self) -> str:
        return self._plain

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._plain == self._plain

    def __hash__(self) -> int:
        return hash(self._plain)

    def __bool__(self) -> bool:
        return bool(self._plain)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not serialised")


def seal(plain: str, *, context: str) -> str:
    """Encrypt with the first key of FIELD_ENCRYPTION_KEYS, bound to the context."""
    keys = _keys()
    name = next(iter(keys))
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(keys[name]).encrypt(nonce, plain.encode(), _associated(name, context))
    return f"{VERSION}:{name}:{base64.urlsafe_b64encode(nonce + sealed).decode()}"


def unseal(sealed: str, *, context: str) -> str:
    """Decrypt with the key that the text names; raise SealBroken if it does not open."""
    name, body = _parts(sealed)
    try:
        key = _keys()[name]
    except KeyError:
        raise SealBroken(f"FIELD_ENCRYPTION_KEYS has no key named {name!r}") from None
    try:
        raw = base64.urlsafe_b64decode(body)
        # Base64 has several spellings of the same bytes; only ours counts.
        if base64.urlsafe_b64encode(raw).decode() != body:
            raise ValueError(body)
        plain = AESGCM(key).decrypt(
            raw[:NONCE_BYTES], raw[NONCE_BYTES:], _associated(name, context)
        )
    except (InvalidTag, ValueError, binascii.Error):
        raise SealBroken(f"a text sealed by the key {name!r} was altered or moved") from None
    text = plain.decode()
    # From here on the process knows it: nothing that the process writes may show it.
    redact.register(text)
    return text


def reseal(sealed: str, *, context: str) -> str:
    """Return the text under the first key; the same text if it is under that key already."""
    if key_id(sealed) == next(iter(_keys())):
        return sealed
    return seal(unseal(sealed, context=context), context=context)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What came of sealing rows again: how many changed, and which no key opens."""

    changed: int
    broken: tuple[str, ...]


def rotate(rows: QuerySet[Any], column: str, context: Callable[[Any], str]) -> Rotation:
    """Seal a column of every row again under the first key.

    A row at a time, and only if it is still what was read: a reader finds a text that opens at
    every moment, and one replaced meanwhile stays replaced. A row that does not open is left.
    """
    changed, broken = 0, []
    for row in rows.exclude(**{column: ""}).iterator():
        old = getattr(row, column)
        try:
            new = reseal(old, context=context(row))
        except SealBroken as reason:
            broken.append(f"{row._meta.label} {row.pk}: {reason}")
            continue
        if new != old:
            changed += rows.filter(pk=row.pk, **{column: old}).update(**{column: new})
    return Rotation(changed, tuple(broken))


def key_id(sealed: str) -> str:
    """Return the name of the key that a text was sealed with."""
    return _parts(sealed)[0]


def check_keys() -> None:
    """Raise ValueError if FIELD_ENCRYPTION_KEYS cannot be used."""
    _keys()


def _parts(sealed: str) -> tuple[str, str]:
    version, _, rest = sealed.partition(":")
    name, _, body = rest.partition(":")
    if version != VERSION or not name or not body:
        raise SealBroken("this is not a sealed text")
    return name, body


def _associated(name: str, context: str) -> bytes:
    return f"{VERSION}:{name}:{context}".encode()


def _keys() -> dict[str, bytes]:
    return _derived(tuple(settings.FIELD_ENCRYPTION_KEYS))


@lru_cache(maxsize=8)
def _derived(given: tuple[str, ...]) -> dict[str, bytes]:
    """Return id → 256-bit key, the sealing key first, from ``id:key`` entries."""
    keys: dict[str, bytes] = {}
    for entry in given:
        name, _, key = entry.partition(":")
        if not name or len(key) < 16 or name in keys:
            raise ValueError("FIELD_ENCRYPTION_KEYS wants entries id:key, ids unique, keys long")
        keys[name] = HKDF(SHA256(), 32, salt=None, info=b"async-coder fields").derive(key.encode())
    if not keys:
        raise ValueError("FIELD_ENCRYPTION_KEYS is empty")
    return keys
