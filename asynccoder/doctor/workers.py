"""Who works, and whether anything waits in vain."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Sum
from django.db.models.functions import Now
from django.db.utils import DatabaseError

from asynccoder.doctor.findings import Finding, failed, ok, warning
from tasks import lease
from tasks.heartbeat import ALIVE_SECONDS
from tasks.models import Status, Task, WorkerHeartbeat

PATIENCE = timedelta(minutes=1)
SWEEPS_MISSED = 3
"""A lease that ran out so many sweeps ago should have been taken back."""


def check_workers() -> Iterator[Finding]:
    try:
        yield from _look()
    except DatabaseError as error:
        yield failed(f"nobody can tell ({type(error).__name__}): see the line of the database.")


def _look() -> Iterator[Finding]:
    alive = WorkerHeartbeat.objects.filter(seen_at__gte=Now() - timedelta(seconds=ALIVE_SECONDS))
    workers = alive.count()
    slots, runs = alive.aggregate(slots=Sum("slots"), runs=Sum("runs")).values()
    waiting = lease.due().filter(created_at__lt=Now() - PATIENCE).count()
    if not workers and waiting:
        yield failed(f"{waiting} tasks have waited for over a minute and no worker is alive: start"
                     " manage.py worker.")  # fmt: skip
    elif not workers:
        yield warning("no worker is alive: start manage.py worker, or no task will run.")
    elif waiting:
        yield warning(
            f"{waiting} tasks have waited for over a minute; {runs} of {slots} slots are taken:"
            " raise WORKER_SLOTS or start another worker."
        )
    else:
        yield ok(f"{workers} alive, {runs} of {slots} slots taken, nothing waits")
    yield from _unswept()
    others = alive.exclude(version=settings.VERSION).values_list("version", flat=True).distinct()
    for version in others:
        yield warning(f"a worker runs version {version}, not {settings.VERSION}: restart it.")


def _unswept() -> Iterator[Finding]:
    age = timedelta(seconds=SWEEPS_MISSED * settings.SWEEP_SECONDS)
    leases = Task.objects.filter(status=Status.RUNNING, lease_expires_at__lt=Now() - age)
    lost = leases.exclude(lease_owner="").count()
    if lost:
        yield failed(f"{lost} leases ran out and no sweep took them back: restart the workers, or"
                     " run manage.py sweep.")  # fmt: skip
