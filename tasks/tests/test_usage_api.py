"""/api/v1/users/usage: from the rows that the work itself wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from rest_framework.test import APIClient

from accounts import keys
from accounts.models import User
from aimodels import usage
from aimodels.providers.base import Usage
from aimodels.tests.make import make_model
from aimodels.usage import Call, Work
from billing import ledger
from billing.tests.make import CREDIT, give
from tasks.models import Status, Task
from tasks.tests.make import make_task

PATH = "/api/v1/users/usage"
DAY = datetime(2026, 3, 10, 12, tzinfo=UTC)


def work(user: User, *, credits: int, model: Any, status: str, type_: str = "debug") -> Task:
    """Do what a run writes down: a task, a charge, a call."""
    task = make_task(owner=user, model=model, status=status, type=type_)
    reference = f"test:{task.pk}"
    ledger.hold(user_id=user.pk, microcredits=credits * CREDIT, reference=reference, description="")
    ledger.charge(
        hold_reference=reference,
        microcredits=credits * CREDIT,
        reference=f"{reference}:call:1",
        description="",
    )
    usage.record(
        Call(
            model=model,
            user_id=user.pk,
            reference=reference,
            tokens=Usage(input=100, cached=40, output=10),
        ),
        Work(task_type=type_, repository_id=None, charged_microcredits=credits * CREDIT),
    )
    return task


@pytest.fixture
def worked(alice: User, mallory: User) -> None:
    one, two = make_model("one"), make_model("two")
    with time_machine.travel(DAY - timedelta(days=1), tick=False):
        give(alice, 100)
        give(mallory, 100)
        work(alice, credits=2, model=one, status=Status.COMPLETED)
        work(alice, credits=3, model=one, status=Status.FAILED, type_="debug")
        work(mallory, credits=7, model=two, status=Status.COMPLETED)
    with time_machine.travel(DAY, tick=False):
        work(alice, credits=1, model=two, status=Status.COMPLETED, type_="documentation")


def seen(api: APIClient, user: User, query: str = "", *, at: datetime = DAY) -> dict[str, Any]:
    api.force_authenticate(user)
    with time_machine.travel(at, tick=False):
        answer = api.get(PATH + query)
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


@pytest.mark.usefixtures("worked")
def test_the_usage_of_thirty_days(api: APIClient, alice: User) -> None:
    body = seen(api, alice)
    assert (body["start_date"], body["end_date"]) == ("2026-02-09", "2026-03-10")
    tasks = body["tasks"]
    assert (tasks["total"], tasks["by_status"]["completed"], tasks["by_status"]["failed"]) == (
        3,
        2,
        1,
    )
    assert (tasks["by_type"]["debug"], tasks["by_type"]["documentation"]) == (2, 1)
    assert body["model_calls"] == {"calls": 3, "failures": 0, "own_key_calls": 0}
    assert body["tokens"] == {"input": 300, "cached": 120, "output": 30}
    assert body["credits_used"] == 6
    models = [(row["name"], row["calls"], row["credits_used"]) for row in body["models"]]
    assert models == [("one", 2, 5), ("two", 1, 1)]
    days = [(row["day"], row["calls"], row["credits_used"]) for row in body["days"]]
    assert days == [("2026-03-09", 2, 5), ("2026-03-10", 1, 1)]
    assert body["limits"] == {
        "plan": "free",
        "requests_per_hour": 100,
        "tasks_per_hour": 10,
        "concurrent_tasks": 2,
        "running_tasks": 0,
    }


@pytest.mark.usefixtures("worked")
@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("?start_date=2026-03-10", 1),
        ("?end_date=2026-03-09", 2),
        ("?start_date=2026-03-09&end_date=2026-03-09", 2),
        ("?start_date=2026-03-01&end_date=2026-03-08", 0),
    ],
)
def test_both_ends_of_the_days_are_included(
    api: APIClient, alice: User, query: str, total: int
) -> None:
    body = seen(api, alice, query)
    assert body["tasks"]["total"] == body["model_calls"]["calls"] == total


@pytest.mark.usefixtures("worked")
def test_everyone_sees_the_own_usage_only(
    api: APIClient, mallory: User, staff: User, victor: User
) -> None:
    assert seen(api, mallory)["credits_used"] == 7
    for other in (staff, victor):
        body = seen(api, other)
        assert (body["tasks"]["total"], body["credits_used"], body["models"]) == (0, 0, [])


@pytest.mark.usefixtures("worked")
def test_the_number_of_queries_does_not_grow(
    api: APIClient, alice: User, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(6):
        seen(api, alice)


@pytest.mark.parametrize(
    "query",
    [
        "?start_date=yesterday",
        "?start_date=2026-03-10&end_date=2026-03-09",
        "?start_date=2020-01-01&end_date=2026-03-09",
        "?start_date=0001-01-01",
        "?end_date=9999-12-32",
    ],
)
def test_days_that_are_none_are_refused(alice_api: APIClient, query: str) -> None:
    assert alice_api.get(PATH + query).status_code == 400


@pytest.mark.parametrize(
    "query", ["?end_date=0001-01-01", "?start_date=9999-12-31&end_date=9999-12-31"]
)
def test_the_ends_of_time_are_days_too(alice_api: APIClient, query: str) -> None:
    assert alice_api.get(PATH + query).status_code == 200


def test_nobody_has_no_usage_and_a_key_needs_the_scope(api: APIClient, alice: User) -> None:
    assert api.get(PATH).status_code == 401
    for scope, code in (("task:read", 200), ("build:read", 403)):
        text = keys.create(user=alice, name=scope, scopes=[scope])[1]
        assert APIClient(headers={"x-api-key": text}).get(PATH).status_code == code
