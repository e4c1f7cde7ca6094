"""Ask GitHub about all open pull requests now, as after webhooks were missed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from repositories import missed


class Command(BaseCommand):
    help = "Ask GitHub for the state of all open pull requests; workers do so about once an hour."

    def handle(self, *args: Any, **options: Any) -> None:
        caught = missed.catch_up(everything=True)
        self.stdout.write(f"{caught.asked} pull requests asked about, {caught.changed} changed.")
