"""One pass of the sweeper, which every worker makes every few seconds anyway."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from tasks import actors, lease


class Command(BaseCommand):
    help = "Take back expired leases and ring for the tasks that are due."

    def handle(self, *args: Any, **options: Any) -> None:
        taken = lease.take_back_expired()
        ended = lease.end_overdue()
        waiting = [str(task_id) for task_id in lease.due().values_list("pk", flat=True)]
        for task_id in waiting:
            actors.ring(task_id)
        self.stdout.write(
            f"{taken} leases taken back, {len(waiting)} tasks rung for, {ended} ended as overdue."
        )
