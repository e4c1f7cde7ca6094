"""Which workers are alive, and whether what is due will be done."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from tasks import lease
from tasks.models import WorkerHeartbeat

ALIVE_SECONDS = 60
FORGOTTEN_AFTER = timedelta(days=1)


class NobodyWorks(Exception):
    """Tasks have been due for a while and no worker is there to take them."""


def beat(*, worker: str, slots: int, runs: int) -> None:
    """Say that a worker is alive; forget those that were not seen for a day."""
    WorkerHeartbeat.objects.update_or_create(
        name=worker,
        defaults={"slots": slots, "runs": runs, "version": settings.VERSION, "seen_at": Now()},
    )
    WorkerHeartbeat.objects.filter(seen_at__lt=Now() - FORGOTTEN_AFTER).delete()


def leave(*, worker: str) -> None:
    WorkerHeartbeat.objects.filter(name=worker).delete()


def check_queue() -> None:
    """Raise NobodyWorks when something waits and no worker has been seen (for ``/health``)."""
    recently = Now() - timedelta(seconds=ALIVE_SECONDS)
    if WorkerHeartbeat.objects.filter(seen_at__gte=recently).exists():
        return
    if lease.due().filter(created_at__lt=recently).exists():
        raise NobodyWorks(f"no worker was seen for {ALIVE_SECONDS} seconds")
