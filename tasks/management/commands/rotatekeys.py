"""``manage.py rotatekeys``: seal what is stored again under the newest encryption key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from accounts import github
from aimodels import keys
from repositories import connect


class Command(BaseCommand):
    help = (
        "Seal provider keys, repositories' credentials and GitHub tokens under the first of "
        "FIELD_ENCRYPTION_KEYS."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        credentials = connect.rotate_credentials() + github.rotate_tokens()
        self.stdout.write(f"{keys.rotate()} keys and {credentials} credentials sealed anew.")
