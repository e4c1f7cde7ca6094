"""One pass of the sweeper; every worker sweeps every few seconds, and clears up every hour."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from repositories import hosted, webhooks
from tasks import actors, lease, workspace


class Command(BaseCommand):
    help = "Take back expired leases, ring for the tasks that are due, clear what dead runs left."

    def handle(self, *args: Any, **options: Any) -> None:
        taken = lease.take_back_expired()
        ended = lease.end_overdue()
        waiting = [str(task_id) for task_id in lease.due().values_list("pk", flat=True)]
        for task_id in waiting:
            actors.ring(task_id)
        webhooks.ring_waiting()
        dropped = workspace.drop_abandoned()
        swept = hosted.sweep()
        self.stdout.write(
            f"{taken} leases taken back, {len(waiting)} tasks rung for, {ended} ended as overdue, "
            f"{dropped} abandoned folders and {swept} bundles that nobody names removed."
        )
