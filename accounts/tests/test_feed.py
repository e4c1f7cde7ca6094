from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from accounts import feed
from accounts.models import FeedEvent, User
from asynccoder.lib import bus


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Collect the notices instead of sending them: what is tested is when they are sent."""
    sent: list[tuple[str, int]] = []
    monkeypatch.setattr(bus, "ring", lambda topic, sequence: sent.append((topic, sequence)))
    return sent


def test_events_are_numbered_within_a_user(alice: User, mallory: User) -> None:
    numbers = [feed.append(user_id=alice.pk, event="a", data={"n": n}) for n in range(3)]
    assert numbers == [1, 2, 3]
    assert feed.append(user_id=mallory.pk, event="a", data={}) == 1
    assert list(alice.feed_events.values_list("sequence", "data")) == [
        (1, {"n": 0}),
        (2, {"n": 1}),
        (3, {"n": 2}),
    ]


def test_the_bell_rings_after_commit_only(
    alice: User, rings: list[tuple[str, int]], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        feed.append(user_id=alice.pk, event="a", data={})
        assert rings == []
    assert rings == [(f"user:{alice.pk}", 1)]


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_fails_leaves_no_gap(rings: list[tuple[str, int]]) -> None:
    user = User.objects.create_user("ann", "ann@example.com")

    class Undone(Exception):
        pass

    def fail() -> None:
        with transaction.atomic():
            feed.append(user_id=user.pk, event="a", data={})
            raise Undone

    with pytest.raises(Undone):
        fail()
    assert rings == []
    assert feed.append(user_id=user.pk, event="a", data={}) == 1


@pytest.mark.django_db
def test_an_account_that_is_gone_is_an_error() -> None:
    with pytest.raises(User.DoesNotExist):
        feed.append(user_id=uuid.uuid4(), event="a", data={})


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_twenty_writers_leave_neither_gap_nor_duplicate(rings: list[tuple[str, int]]) -> None:
    user = User.objects.create_user("ann", "ann@example.com")

    def write(n: int) -> int:
        try:
            return feed.append(user_id=user.pk, event="a", data={"n": n})
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        numbers = list(pool.map(write, range(100)))
    assert sorted(numbers) == list(range(1, 101))
    assert list(FeedEvent.objects.values_list("sequence", flat=True)) == list(range(1, 101))
    assert len(rings) == 100
