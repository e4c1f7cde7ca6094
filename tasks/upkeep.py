"""What is forgotten and cleared up now and then: by every worker each hour, and by ``sweep``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from django.conf import settings

from accounts import tokens
from accounts.models import FeedEvent
from aimodels.models import KeyUsage
from asynccoder.lib import retention
from repositories import hosted, webhooks
from tasks.workspace import drop_abandoned


@dataclass(frozen=True, slots=True)
class Tidied:
    folders: int
    bundles: int
    rows: int
    """Of logs whose days are over."""


def tidy() -> Tidied:
    """Forget sign-ins that ran out and old rows of logs; remove what nobody needs from disks."""
    tokens.forget_expired()
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
    rows = webhooks.forget_old()
    rows += retention.forget(FeedEvent, days=settings.FEED_KEEP_DAYS)
    rows += retention.forget(KeyUsage, days=settings.KEY_USAGE_KEEP_DAYS)
    return Tidied(folders=drop_abandoned(), bundles=hosted.sweep(), rows=rows)
