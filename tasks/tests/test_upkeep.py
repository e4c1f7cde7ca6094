"""What is cleared up each hour: rows of logs whose days are over, and nothing younger."""

from __future__ import annotations

import uuid
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts import feed
from accounts.models import FeedEvent, User
from aimodels.models import KeyUsage
from asynccoder.lib import retention
from repositories.models import WebhookDelivery
from tasks import upkeep

pytestmark = pytest.mark.django_db


def feed_event(owner: User) -> None:
    feed.append(user_id=owner.pk, event="credits:updated", data={})


def key_usage(owner: User) -> None:
    KeyUsage.objects.create(user=owner, key_id=uuid.uuid4(), provider="openai", model_name="m")


def delivery(owner: User) -> None:
    now = timezone.now()
    WebhookDelivery.objects.create(
        delivery=str(uuid.uuid4()), event="push", received_at=now, run_after=now
    )


LOGS: dict[str, tuple[type[Any], str, Any]] = {
    "FEED_KEEP_DAYS": (FeedEvent, "created_at", feed_event),
    "KEY_USAGE_KEEP_DAYS": (KeyUsage, "created_at", key_usage),
    "WEBHOOKS_KEEP_DAYS": (WebhookDelivery, "received_at", delivery),
}


def age(log: type[Any], since: str, row: Any, *, days: float) -> None:
    log.objects.filter(pk=row.pk).update(**{since: timezone.now() - timedelta(days=days)})


@pytest.mark.parametrize("setting", LOGS)
def test_rows_are_forgotten_when_their_days_are_over(
    alice: User, settings: Any, setting: str
) -> None:
    log, since, make = LOGS[setting]
    setattr(settings, setting, 7)
    for _ in range(3):
        make(alice)
    old, young, _ = log.objects.order_by("pk")
    age(log, since, old, days=7.1)
    age(log, since, young, days=6.9)
    assert upkeep.tidy().rows == 1
    assert not log.objects.filter(pk=old.pk).exists()
    assert upkeep.tidy().rows == 0
    assert log.objects.count() == 2


@pytest.mark.parametrize("setting", LOGS)
def test_no_days_keep_them_for_ever(alice: User, settings: Any, setting: str) -> None:
    log, since, make = LOGS[setting]
    setattr(settings, setting, 0)
    make(alice)
    age(log, since, log.objects.get(), days=10_000)
    assert upkeep.tidy().rows == 0


def test_many_are_forgotten_a_part_at_a_time(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "MOST_BATCHES", 3)
    for _ in range(9):
        feed_event(alice)
    FeedEvent.objects.update(created_at=timezone.now() - timedelta(days=8))
    feed_event(alice)
    forgotten = [retention.forget(FeedEvent, days=7) for _ in range(3)]
    assert forgotten == [6, 3, 0]
    assert FeedEvent.objects.get().sequence == 10


def test_who_reconnects_hears_what_is_left_under_its_own_numbers(alice: User) -> None:
    for _ in range(3):
        feed_event(alice)
    first = FeedEvent.objects.order_by("pk")[0]
    age(FeedEvent, "created_at", first, days=10_000)
    upkeep.tidy()
    feed_event(alice)
    assert list(FeedEvent.objects.values_list("sequence", flat=True)) == [2, 3, 4]


def test_the_sweep_command_says_what_was_forgotten(alice: User) -> None:
    feed_event(alice)
    age(FeedEvent, "created_at", FeedEvent.objects.get(), days=10_000)
    out = StringIO()
    call_command("sweep", stdout=out)
    assert "1 old rows of logs forgotten" in out.getvalue()
