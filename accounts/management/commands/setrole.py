"""``setrole EMAIL ROLE``: what an account may do."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Role, User


class Command(BaseCommand):
    help = "Give an account the role viewer, user or admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("role", choices=Role.values)

    def handle(self, *args: Any, email: str, role: str, **options: Any) -> None:
        changed = User.objects.filter(email__iexact=email).update(role=role)
        if not changed:
            raise CommandError(f"There is no account with the address {email}.")
        self.stdout.write(f"{email} is {Role(role).label.lower()} now.")
