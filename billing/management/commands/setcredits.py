"""``manage.py setcredits EMAIL AMOUNT``: bring a balance to an amount, by an adjustment."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.models import User
from billing import ledger


class Command(BaseCommand):
    help = "Set a user's free credits to an amount, by an adjustment in the ledger."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("amount", help="Credits, such as 250 or 0.5.")

    def handle(self, *args: Any, email: str, amount: str, **options: Any) -> None:
        target = _microcredits(amount)
        user = User.objects.filter(email__iexact=email).first()
        if user is None:
            raise CommandError(f"There is no account with the address {email}.")
        with transaction.atomic():
            # The row is ours first: what is read cannot change before the adjustment.
            User.objects.select_for_update(no_key=True).get(pk=user.pk)
            change = target - ledger.balance(user.pk).balance
            if change:
                ledger.adjust(
                    user_id=user.pk,
                    microcredits=change,
                    reference=f"adjustment:{uuid.uuid4()}",
                    description="Set by an operator",
                )
        now = ledger.balance(user.pk)
        self.stdout.write(
            f"{user.email} has {ledger.as_credits(now.balance):g} credits"
            f" ({ledger.as_credits(change):+g}), {ledger.as_credits(now.held):g} held."
        )


def _microcredits(amount: str) -> int:
    try:
        exact = Decimal(amount) * ledger.MICROCREDITS
        whole = int(exact)
    except (InvalidOperation, ValueError, OverflowError):
        raise CommandError("AMOUNT is a number of credits.") from None
    if exact != whole or not 0 <= whole < 2**62:
        raise CommandError("AMOUNT is at least 0, with at most six decimals.")
    return whole
