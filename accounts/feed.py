"""The feed of a user (``/ws``): the only function that adds to it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from accounts.models import FeedEvent, User
from asynccoder.lib import bus, counters


def append(*, user_id: uuid.UUID, event: str, data: Mapping[str, Any]) -> int:
    """Store an event, announce it once it is committed, and return its sequence number.

    1. Take the next number from the user's row; the row is ours until the transaction ends, so
       numbers become visible in their order and without gaps.
    2. Write the event under it.
    3. After commit, ring ``user:<id>``.

    Raise User.DoesNotExist if the account is gone.
    """
    with transaction.atomic(savepoint=False):
        sequence = counters.take(User.objects.filter(pk=user_id), "event_sequence")
        if sequence is None:
            raise User.DoesNotExist
        FeedEvent.objects.create(user_id=user_id, sequence=sequence, event=event, data=dict(data))
        transaction.on_commit(lambda: bus.ring(f"user:{user_id}", sequence))
    return sequence
