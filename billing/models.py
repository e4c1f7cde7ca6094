"""Credits: accounts, holds and the append-only ledger. 1 credit = 1,000,000 microcredits."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, NoReturn

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from accounts.models import User
from billing.errors import LedgerIsFinal


class CreditAccount(models.Model):
    """What a user has. ``balance`` is free to spend; ``held`` is set aside by open holds.

    Only ``billing.ledger`` changes it, by conditional UPDATEs.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="credit_account"
    )
    balance_microcredits = models.BigIntegerField(default=0)
    held_microcredits = models.BigIntegerField(default=0)
    spent_microcredits = models.BigIntegerField(default=0, help_text="Charges less refunds.")
    entry_sequence = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Sequence number of the newest ledger entry."
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(balance_microcredits__gte=0), name="balance_not_negative"
            ),
            models.CheckConstraint(condition=Q(held_microcredits__gte=0), name="held_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.balance_microcredits / 1_000_000:.2f} credits"


class CreditHold(models.Model):
    """Credits set aside for one piece of work, such as ``task:<id>``; closed once."""

    account = models.ForeignKey(CreditAccount, on_delete=models.CASCADE, related_name="holds")
    reference = models.CharField(max_length=120, unique=True)
    amount_microcredits = models.BigIntegerField()
    remaining_microcredits = models.BigIntegerField()
    is_open = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(remaining_microcredits__gte=0), name="hold_not_negative"
            )
        ]

    def __str__(self) -> str:
        return self.reference


class LedgerQuerySet(models.QuerySet["LedgerEntry"]):
    def visible_to(self, user: User) -> LedgerQuerySet:
        """Return the user's own entries; an administrator sees all."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_admin else self.filter(account__user=user)

    def settled(self) -> LedgerQuerySet:
        """Return what changed the user's credits; a hold or a release only sets some aside."""
        return self.exclude(kind__in=[LedgerEntry.Kind.HOLD, LedgerEntry.Kind.RELEASE])

    def of_type(self, type_: str) -> LedgerQuerySet:
        """Return S0's "credit" or "debit" entries."""
        if type_ == "credit":
            return self.filter(
                Q(balance_change__gt=-F("held_change"))
                | Q(balance_change=-F("held_change"), balance_change__gt=0)
            )
        return self.filter(
            Q(balance_change__lt=-F("held_change"))
            | Q(balance_change=-F("held_change"), balance_change__lte=0)
        )

    def update(self, **kwargs: Any) -> NoReturn:
        raise LedgerIsFinal

    def delete(self) -> NoReturn:
        raise LedgerIsFinal


class LedgerEntry(models.Model):
    """One row of the ledger: never changed, never deleted; ``reference`` makes it unique."""

    class Kind(models.TextChoices):
        GRANT = "grant", "Grant"
        PURCHASE = "purchase", "Purchase"
        HOLD = "hold", "Hold"
        CHARGE = "charge", "Charge"
        RELEASE = "release", "Release"
        REFUND = "refund", "Refund"
        ADJUSTMENT = "adjustment", "Adjustment"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(CreditAccount, on_delete=models.PROTECT, related_name="entries")
    sequence = models.PositiveBigIntegerField(help_text="Position in the account; no gaps.")
    kind = models.CharField(max_length=12, choices=Kind)
    reference = models.CharField(max_length=150, unique=True)
    balance_change = models.BigIntegerField(help_text="Microcredits.")
    held_change = models.BigIntegerField(default=0, help_text="Microcredits.")
    balance_after = models.BigIntegerField()
    held_after = models.BigIntegerField()
    description = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = LedgerQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "ledger entries"
        ordering = ["-created_at", "-sequence"]
        constraints = [
            models.UniqueConstraint(fields=["account", "sequence"], name="ledger_sequence_unique")
        ]

    def __str__(self) -> str:
        return self.reference

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the entry; raise LedgerIsFinal for one that is stored already."""
        if not self._state.adding:
            raise LedgerIsFinal
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise LedgerIsFinal

    @property
    def total_change(self) -> int:
        """Return what it did to all that the user has; a hold and a release do nothing to it."""
        return self.balance_change + self.held_change

    @property
    def total_after(self) -> int:
        return self.balance_after + self.held_after

    @property
    def type(self) -> str:
        """Return S0's word: "credit" or "debit", by what it did to the free balance first."""
        return "credit" if (self.total_change or self.balance_change) > 0 else "debit"


class SubscriptionPlan(models.Model):
    """A tier: what it costs and what it allows."""

    slug = models.SlugField(primary_key=True, max_length=40)
    name = models.CharField(max_length=60)
    description = models.TextField(blank=True)
    price_usd = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    monthly_credits = models.PositiveIntegerField(default=0)
    concurrent_tasks = models.PositiveIntegerField(default=2, validators=[MinValueValidator(1)])
    requests_per_hour = models.PositiveIntegerField(default=100, validators=[MinValueValidator(1)])
    tasks_per_hour = models.PositiveIntegerField(default=10, validators=[MinValueValidator(1)])
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["price_usd", "slug"]

    def __str__(self) -> str:
        return self.name


class SubscriptionUsageQuerySet(models.QuerySet["SubscriptionUsage"]):
    def visible_to(self, user: User) -> SubscriptionUsageQuerySet:
        """Return the user's own months; an administrator sees all."""
        if not user.is_authenticated:
            return self.none()
        return self if user.is_admin else self.filter(user=user)


class SubscriptionUsage(models.Model):
    """S1's ``subscription_usage``: what an account used in a month (UTC). The ledger writes it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="subscription_usage"
    )
    period_start = models.DateField(help_text="First day of the month.")
    plan = models.CharField(max_length=40, help_text="The plan when the month began to be used.")
    holds = models.PositiveBigIntegerField(
        default=0, help_text="Pieces of work that credits were set aside for, such as tasks."
    )
    charges = models.PositiveBigIntegerField(default=0)
    charged_microcredits = models.PositiveBigIntegerField(default=0)
    refunded_microcredits = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[Any] = SubscriptionUsageQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "subscription usage"
        ordering = ["-period_start", "user"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "period_start"], name="subscription_usage_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.period_start:%Y-%m}"

    @property
    def used_microcredits(self) -> int:
        return self.charged_microcredits - self.refunded_microcredits
