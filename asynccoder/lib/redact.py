"""Takes secrets out of texts that leave us: logs, events, errors.

Two nets: the live secrets of this process (as they are, in base64, in a URL), and the shapes that
foreign secrets have.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import OrderedDict
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 8
"""Characters that a secret needs to be looked for: shorter ones would mask ordinary words."""
MOST = 256
"""Secrets of users that are remembered; the one registered longest ago is forgotten first."""

_PATTERNS = re.compile(
    r"""
      -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    | \beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*    # a JSON web token
    | \bac_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{20,}                          # our own access keys
    | \bsk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}      # Anthropic, OpenAI; not a CSS class
    | \b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{10,} | \bwhsec_[A-Za-z0-9+/=]{16,}   # Stripe
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,} | \bglpat-[A-Za-z0-9_-]{16,}
    | \bAIza[A-Za-z0-9_-]{30,} | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b | \bxox[abprs]-[A-Za-z0-9-]{10,}
    | (?<=://)[^/\s:@]*:[^/\s@]+(?=@)                                 # user:password in a URL
    | (?<=[?&]token=)[^&\s"']+
    | (?i:(?<=bearer[ ]))(?=[A-Za-z._~+/=-]*[0-9])[A-Za-z0-9._~+/=-]{8,}
    | (?i:(?<=authorization:[ ]basic[ ]))[A-Za-z0-9+/=]{8,}
    """,
    re.VERBOSE | re.DOTALL,
)

_lock = threading.Lock()
_own: dict[str, tuple[str, ...]] = {}
_live: OrderedDict[str, tuple[str, ...]] = OrderedDict()


def keep(secret: str) -> None:
    """Mask a secret of the instance itself, as ``register`` does, for as long as the process lives."""
    if len(secret) >= SHORTEST:
        with _lock:
            _own[secret] = _forms(secret)


def register(secret: str) -> None:
    """Mask this secret from now on, in every form; short ones (under 8 characters) are not."""
    if len(secret) < SHORTEST:
        return
    with _lock:
        _live.setdefault(secret, _forms(secret))
        _live.move_to_end(secret)
        while len(_live) > MOST:
            _live.popitem(last=False)


def forget(secret: str) -> None:
    with _lock:
        _live.pop(secret, None)


def text(value: str) -> str:
    """Return the text with every known secret replaced by ``***``."""
    with _lock:
        known = (*_own.values(), *_live.values())
        forms = [form for forms in known for form in forms if form in value]
    # The longest first: a secret may contain another.
    for form in sorted(forms, key=len, reverse=True):
        value = value.replace(form, MASK)
    return _PATTERNS.sub(MASK, value)


def _forms(secret: str) -> tuple[str, ...]:
    """Return the secret as it may appear: plain, URL-encoded, and inside longer base64."""
    forms = {secret, quote(secret, safe=""), quote_plus(secret), secret.encode().hex()}
    forms |= {json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(secret.encode())[2:-1]}
    for shift in range(3):
        forms |= set(_base64_inside(secret.encode(), shift))
    return tuple(form for form in forms if len(form) >= SHORTEST)


def _base64_inside(secret: bytes, shift: int) -> tuple[str, str]:
    """Return the base64 digits that depend on the secret alone, after ``shift`` other bytes."""
    digits = base64.b64encode(b"\0" * shift + secret).decode().rstrip("=")
    first = -(-shift * 8 // 6)
    whole = (shift + len(secret)) * 8 // 6
    inside = digits[first:whole]
    return inside, inside.replace("+", "-").replace("/", "_")
