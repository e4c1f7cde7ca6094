"""One pass of the sweeper; every worker sweeps every few seconds, and clears up every hour."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from repositories import missed, webhooks
from tasks import actors, lease, upkeep


class Command(BaseCommand):
    help = (
        "Take back expired leases, ring for the tasks that are due, clear what dead runs left, and "
        "forget what is kept no longer."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        taken = lease.take_back_expired()
        ended = lease.end_overdue()
        waiting = [str(task_id) for task_id in lease.due().values_list("pk", flat=True)]
        for task_id in waiting:
            actors.ring(task_id)
        webhooks.ring_waiting()
        missed.ring_due()
        tidied = upkeep.tidy()
        self.stdout.write(
            f"{taken} leases taken back, {len(waiting)} tasks rung for, {ended} ended as overdue, "
            f"{tidied.folders} abandoned folders and {tidied.bundles} bundles that nobody names "
            f"removed, {tidied.rows} old rows of logs forgotten."
        )
