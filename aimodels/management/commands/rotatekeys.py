"""``manage.py rotatekeys``: seal provider keys again under the newest encryption key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from aimodels import keys


class Command(BaseCommand):
    help = "Seal users' and the platform's provider keys under the first of FIELD_ENCRYPTION_KEYS."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{keys.rotate()} keys sealed anew.")
