"""A key that may start tasks and not look at them learns no result by editing one."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts import keys
from accounts.models import User
from tasks.tests.story import completed_task


@pytest.mark.django_db
@pytest.mark.parametrize("scopes", [["task:create"], ["task:create", "task:read"]])
def test_an_edit_shows_results_to_who_may_read(
    client: Client, alice: User, scopes: list[str]
) -> None:
    task = completed_task(alice)
    _, key = keys.create(user=alice, name="ci", scopes=scopes)
    answer = client.put(
        f"/api/v1/tasks/{task.pk}", {}, content_type="application/json", headers={"X-API-Key": key}
    )
    assert answer.status_code == 200
    assert bool(answer.json()["results"]) is ("task:read" in scopes)
