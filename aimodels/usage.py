"""What model calls used: the statistics of a day, and the log of users' own keys."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from aimodels.errors import PriceUnknown
from aimodels.models import AIModel, KeyUsage, ModelUsage, ProviderKey
from aimodels.providers.base import Usage

NANO = Decimal("0.000000001")
HIGHEST_USD = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A model call that has ended. ``failure`` names what it ended with; empty: it was answered."""

    model: AIModel
    user_id: UUID
    reference: str
    tokens: Usage = Usage()  # noqa: RUF009 # frozen
    seconds: float = 0.0
    failure: str = ""
    key_id: UUID | None = None

    @property
    def duration_ms(self) -> int:
        return max(round(self.seconds * 1000), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a call was made for, and what its owner was charged."""

    task_type: str
    repository_id: UUID | None
    charged_microcredits: int = 0
    is_own_key: bool = False


def record(call: Call, work: Work) -> None:
    """Count a run's call, in the transaction that settles it and as the last thing in there.

    The rows of the day are shared by all runs of a user: whoever holds one must wait for nothing.
    """
    _count(call, work)
    log_key(call)


def log_key(call: Call) -> None:
    """Write a call with a user's own key to the key's log; one without such a key is no entry."""
    if call.key_id is None:
        return
    now = timezone.now()
    masked = ProviderKey.objects.filter(pk=call.key_id).values_list("masked", flat=True).first()
    KeyUsage.objects.create(
        user_id=call.user_id,
        key_id=call.key_id,
        masked=masked or "",
        provider=call.model.provider,
        model_name=call.model.name,
        reference=call.reference,
        input_tokens=call.tokens.input,
        cached_tokens=call.tokens.cached,
        output_tokens=call.tokens.output,
        price_usd=_price(call),
        duration_ms=call.duration_ms,
        failure=call.failure[:40],
    )
    ProviderKey.objects.filter(pk=call.key_id).update(last_used_at=now)


def _count(call: Call, work: Work) -> None:
    row = {
        "model": call.model,
        "user_id": call.user_id,
        "task_type": work.task_type,
        "repository_id": work.repository_id,
        "day": timezone.now().date(),
    }
    added = {
        "calls": 1,
        "failures": int(bool(call.failure)),
        "own_key_calls": int(work.is_own_key),
        "input_tokens": call.tokens.input,
        "cached_tokens": call.tokens.cached,
        "output_tokens": call.tokens.output,
        "charged_microcredits": work.charged_microcredits,
        "duration_ms": call.duration_ms,
    }
    changes = {name: F(name) + value for name, value in added.items()}
    if ModelUsage.objects.filter(**row).update(**changes):
        return
    try:
        with transaction.atomic():
            ModelUsage.objects.create(**row, **added)
    except IntegrityError:
        # Another run of the user was first today.
        ModelUsage.objects.filter(**row).update(**changes)


def _price(call: Call) -> Decimal | None:
    try:
        usd = call.model.prices(call.tokens.input).usd(call.tokens)
    except PriceUnknown:
        return None
    # What an endpoint reports is not ours to trust: a sum beyond all sense is no price.
    if usd >= HIGHEST_USD:
        return None
    return (Decimal(usd.numerator) / Decimal(usd.denominator)).quantize(NANO)
