"""How long rows of logs are kept: a number of days in the settings, 0 for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

BATCH = 2_000
MOST_BATCHES = 50
"""In one pass; whoever sweeps has other things to do, and the next pass goes on."""


def forget(log: type[Any], *, days: int, since: str = "created_at") -> int:
    """Delete a log's rows that are older than so many days; return how many.

    Its keys grow with its times, so that the oldest are found without an index on the times. A
    batch at a time, so that writers get their turn.
    """
    before, gone = timezone.now() - timedelta(days=days), 0
    for _ in range(MOST_BATCHES if days else 0):
        oldest = log.objects.order_by("pk").values_list("pk", since)[:BATCH]
        past = [pk for pk, at in oldest if at < before]
        gone += log.objects.filter(pk__in=past).delete()[0]
        if len(past) < BATCH:
            break
    return gone
