"""Clerk: session tokens proven by the issuer's published keys, and the person behind one.

A token never says where its key is: ``jku``, ``x5u``, ``x5c`` and ``jwk`` in its header are not read. Only
RS256 under a key id that CLERK_JWKS_URL lists is accepted, and our own tokens have another verifier.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from django.conf import settings

from accounts.errors import ClerkAway, ClerkNotSet, TokenRefused

logger = logging.getLogger(__name__)

ALGORITHM: Final = "RS256"
REQUIRED: Final = ["iss", "sub", "exp", "iat"]
LEEWAY_SECONDS: Final = 5
"""How far the issuer's clock and ours may be apart."""
ANSWER_BYTES: Final = 256 * 1024
ANSWER_SECONDS: Final = 5.0
KEY_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Person:
    """Whom an issuer vouches for. ``email`` is empty unless the issuer has verified it."""

    issuer: str
    subject: str
    email: str = ""
    name: str = ""
    avatar_url: str = ""


class KeySet:
    """The issuer's public keys. An unknown key id has them fetched anew, once a minute at most."""

    ASK_EVERY = 60.0
    ASK_AGAIN = 5.0
    """Seconds between tries while there is no key at all."""
    KEEP = 3600.0
    KEEP_MOST = 24 * 3600.0
    """Seconds that keys serve while the issuer does not answer; then they are forgotten."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, RSAPublicKey] = {}
        self._asked_at = self._got_at = -math.inf

    def find(self, key_id: str) -> RSAPublicKey | None:
        """Return the key of this id, or None; raise ClerkAway when no key is known at all."""
        with self._lock:
            now = self._clock()
            if key_id not in self._keys or now - self._got_at > self.KEEP:
                self._refresh(now)
            if not self._keys:
                raise ClerkAway
            return self._keys.get(key_id)

    def _refresh(self, now: float) -> None:
        if now - self._asked_at < (self.ASK_EVERY if self._keys else self.ASK_AGAIN):
            return
        self._asked_at = now
        try:
            self._keys, self._got_at = _rsa_keys(_get(self._url)), now
        except ClerkAway:
            if now - self._got_at > self.KEEP_MOST:
                self._keys = {}


def verify(token: str) -> Person:
    """Return whom a session token proves; raise TokenRefused, ClerkNotSet or ClerkAway."""
    if not settings.CLERK_ISSUER:
        raise ClerkNotSet(details={"setting": "CLERK_ISSUER"})
    try:
        key = _key_of(jwt.get_unverified_header(token))
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=settings.CLERK_ISSUER,
            # Without the setting, a token that is meant for an audience is meant for another.
            audience=settings.CLERK_AUDIENCE or None,
            leeway=LEEWAY_SECONDS,
            options={"require": REQUIRED + (["aud"] if settings.CLERK_AUDIENCE else [])},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise TokenRefused from None
    _refuse_foreign(claims)
    return _person(claims)


def completed(person: Person) -> Person:
    """Ask Clerk who this is, where CLERK_SECRET_KEY allows it; raise ClerkAway.

    Session tokens carry no address unless the application's settings at Clerk add one.
    """
    if person.email or not settings.CLERK_SECRET_KEY:
        return person
    url = f"{settings.CLERK_API_URL}/users/{quote(person.subject, safe='')}"
    profile = _get(url, headers={"Authorization": f"Bearer {settings.CLERK_SECRET_KEY}"})
    return Person(
        issuer=person.issuer,
        subject=person.subject,
        email=_verified_address(profile),
        name=" ".join(filter(None, (_text(profile, "first_name"), _text(profile, "last_name")))),
        avatar_url=_text(profile, "image_url"),
    )


@lru_cache(maxsize=4)
def _key_set(url: str) -> KeySet:
    return KeySet(url)


def _key_of(header: dict[str, Any]) -> RSAPublicKey:
    key_id = header.get("kid")
    is_ours = header.get("alg") == ALGORITHM and str(header.get("typ", "")).upper() == "JWT"
    if not is_ours or not isinstance(key_id, str) or not key_id:
        raise TokenRefused
    url = settings.CLERK_JWKS_URL or f"{settings.CLERK_ISSUER}/.well-known/jwks.json"
    key = _key_set(url).find(key_id)
    if key is None:
        raise TokenRefused
    return key


def _refuse_foreign(claims: dict[str, Any]) -> None:
    """Raise TokenRefused for a token of another page's, of nobody, or of a sign-in under way."""
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
        raise TokenRefused
    if "azp" in claims and claims["azp"] not in settings.CLERK_AUTHORIZED_PARTIES:
        raise TokenRefused
    if claims.get("sts") == "pending":
        raise TokenRefused


def _person(claims: dict[str, Any]) -> Person:
    is_verified = claims.get("email_verified") is True
    return Person(
        issuer=claims["iss"],
        subject=claims["sub"],
        email=_text(claims, "email") if is_verified else "",
        name=_text(claims, "name"),
        avatar_url=_text(claims, "picture"),
    )


def _verified_address(profile: dict[str, Any]) -> str:
    """Return the primary address if Clerk has verified it, else nothing."""
    addresses = profile.get("email_addresses")
    for entry in addresses if isinstance(addresses, list) else []:
        if isinstance(entry, dict) and entry.get("id") == profile.get("primary_email_address_id"):
            state = entry.get("verification")
            is_verified = isinstance(state, dict) and state.get("status") == "verified"
            return _text(entry, "email_address") if is_verified else ""
    return ""


def _text(source: dict[str, Any], name: str) -> str:
    value = source.get(name)
    return value.strip() if isinstance(value, str) else ""


def _rsa_keys(document: dict[str, Any]) -> dict[str, RSAPublicKey]:
    """Return the keys that may sign; others in the list are passed over. Raise ClerkAway for none."""
    listed = document.get("keys")
    keys: dict[str, RSAPublicKey] = {}
    for entry in listed if isinstance(listed, list) else []:
        key = _rsa_key(entry)
        if key is not None:
            keys[entry["kid"]] = key
    if not keys:
        logger.warning("the key set of Clerk holds no key for %s", ALGORITHM)
        raise ClerkAway
    return keys


def _rsa_key(entry: Any) -> RSAPublicKey | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    purpose = (entry.get("kty"), entry.get("use", "sig"), entry.get("alg", ALGORITHM))
    if purpose != ("RSA", "sig", ALGORITHM):
        return None
    try:
        key = jwt.PyJWK.from_dict(entry, algorithm=ALGORITHM).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    is_strong = isinstance(key, RSAPublicKey) and key.key_size >= KEY_BITS
    return key if is_strong else None


def _get(url: str, *, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON object behind an address that the operator set. Raise ClerkAway."""
    client = httpx2.Client(timeout=ANSWER_SECONDS, follow_redirects=False)
    until = time.monotonic() + ANSWER_SECONDS
    body = b""
    try:
        with client, client.stream("GET", url, headers=headers) as response:
            response.raise_for_status()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > ANSWER_BYTES or time.monotonic() > until:
                    raise ValueError("the answer does not end")
        found = json.loads(body)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
        logger.warning("Clerk does not answer as it should: %s", type(error).__name__)
        raise ClerkAway from None
    if not isinstance(found, dict):
        raise ClerkAway
    return found
