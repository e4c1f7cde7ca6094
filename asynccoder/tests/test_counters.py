from __future__ import annotations

import uuid

import pytest
from django.db import transaction

from accounts.models import User
from asynccoder.lib import counters

pytestmark = pytest.mark.django_db


def test_a_number_is_taken_with_other_changes_in_one_statement(
    alice: User, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    rows = User.objects.filter(pk=alice.pk)
    with django_assert_num_queries(1):  # type: ignore[operator]  # a fixture that is called
        first = counters.take(rows, "event_sequence", username="alina")
    assert first == alice.event_sequence + 1
    assert counters.take(rows, "event_sequence") == first + 1
    alice.refresh_from_db()
    assert (alice.username, alice.event_sequence) == ("alina", first + 1)


def test_no_number_is_taken_where_there_is_no_row(alice: User) -> None:
    with transaction.atomic():
        assert counters.take(User.objects.filter(pk=uuid.uuid4()), "event_sequence") is None
    alice.refresh_from_db()
    assert alice.event_sequence == 0
