"""``manage.py demo`` shows a fresh instance at work once, and then what it showed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import User
from asynccoder.tests.processes import Process
from repositories.models import Repository
from tasks.models import Status, Task


@pytest.mark.timeout(400)
def test_the_demo_task_completes_once_and_its_login_works(
    worker_process: Callable[..., Process], settings: Any, client: Client
) -> None:
    call_command("loadmodels", verbosity=0)
    worker = worker_process()
    first = io.StringIO()
    try:
        call_command("demo", stdout=first, seconds=200)
    except (CommandError, SystemExit):
        pytest.fail(first.getvalue() + worker.output())
    task = Task.objects.get()
    assert task.status == Status.COMPLETED
    assert [check.verdict for check in task.checks.order_by("id")][-1] == "passed"
    assert f"http://localhost:8000/tasks/{task.pk}/" in first.getvalue()
    assert "%" in first.getvalue()

    second = io.StringIO()
    call_command("demo", stdout=second)
    assert second.getvalue() == first.getvalue()[-len(second.getvalue()) :]
    assert (User.objects.count(), Repository.objects.count(), Task.objects.count()) == (1, 1, 1)

    password = second.getvalue().split("password ")[1].strip()
    assert client.login(username="demo@example.com", password=password)


def test_without_a_worker_the_demo_says_that_the_task_has_not_ended(db: None) -> None:
    call_command("loadmodels", verbosity=0)
    with pytest.raises(CommandError, match="has not ended within 0 s"):
        call_command("demo", stdout=io.StringIO(), seconds=0)
    assert Task.objects.get().status == Status.PENDING
