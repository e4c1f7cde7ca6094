"""``manage.py rotatekeys``: seal what is stored again under the newest encryption key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import github
from aimodels import keys
from repositories import connect

ROTATIONS = (
    keys.rotate_keys,
    keys.rotate_configs,
    connect.rotate_credentials,
    github.rotate_tokens,
)
"""One for each column that holds sealed texts; a test finds the columns."""


class Command(BaseCommand):
    help = (
        "Seal provider keys, repositories' credentials and GitHub tokens under the first of "
        "FIELD_ENCRYPTION_KEYS. It may be stopped and begun again at any moment."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        total = 0
        while True:
            done = [rotate() for rotate in ROTATIONS]
            changed = sum(one.changed for one in done)
            total += changed
            if not changed:
                # Nobody has written back meanwhile what was read before.
                break
        self.stdout.write(f"{total} secrets sealed anew.")
        broken = [row for one in done for row in one.broken]
        if broken:
            raise CommandError("These do not open and were left:\n" + "\n".join(broken))
