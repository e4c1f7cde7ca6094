"""Access keys (``X-API-Key``): made once, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from accounts.errors import KeyRefused
from accounts.models import AccessKey, User

FORM = re.compile(r"ac_([A-Za-z0-9]{8})_[A-Za-z0-9_-]{43}")
USE_NOTED_EVERY = timedelta(minutes=1)


def create(
    *, user: User, name: str, scopes: list[str] | None = None, expires_at: datetime | None = None
) -> tuple[AccessKey, str]:
    """Make a key and return it with its text, which nobody can show again."""
    prefix = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(8))
    text = f"ac_{prefix}_{secrets.token_urlsafe(32)}"
    key = AccessKey.objects.create(
        user=user,
        name=name,
        prefix=prefix,
        digest=_digest(text),
        scopes=sorted(set(scopes or [])),
        expires_at=expires_at,
    )
    return key, text


def find(text: str) -> AccessKey:
    """Return the usable key of this text, with its user, or raise KeyRefused."""
    form = FORM.fullmatch(text)
    if form is None:
        raise KeyRefused
    key: AccessKey | None = (
        AccessKey.objects.usable().filter(prefix=form[1]).select_related("user").first()
    )
    # Compared even when there is no such key, so that the time tells nothing.
    known = key.digest if key else _digest("")
    if not hmac.compare_digest(known, _digest(text)) or key is None:
        raise KeyRefused
    _note_use(key)
    return key


def _note_use(key: AccessKey) -> None:
    """Keep the time of the last use, to the minute: a row is not written for every request."""
    now = timezone.now()
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - USE_NOTED_EVERY)
    if key.last_used_at is None or key.last_used_at < now - USE_NOTED_EVERY:
        AccessKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
