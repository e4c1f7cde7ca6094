"""``manage.py setplan EMAIL PLAN``: put an account on a plan."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from billing import plans
from billing.errors import PlanUnknown
from billing.models import SubscriptionPlan


class Command(BaseCommand):
    help = "Put a user on a plan and apply what it allows."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("plan")

    def handle(self, *args: Any, email: str, plan: str, **options: Any) -> None:
        user = User.objects.filter(email__iexact=email).first()
        if user is None:
            raise CommandError(f"There is no account with the address {email}.")
        try:
            chosen = plans.put_on_plan(user, plan)
        except PlanUnknown as error:
            known = ", ".join(SubscriptionPlan.objects.values_list("slug", flat=True))
            raise CommandError(f"{error} There are: {known}.") from None
        self.stdout.write(f"{user.email} is on {chosen.name}: {chosen.concurrent_tasks} at once.")
