"""Tasks in the Django admin: readable everywhere, writable nowhere; actions call the verbs."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import User
from tasks.models import Analysis, Artifact, Check, Status, TaskAnalytics, TaskResult
from tasks.tests.make import make_log, make_step, make_task

NAMES = ["task", "step", "tasklog", "taskresult", "check", "artifact", "analysis", "taskanalytics"]


@pytest.fixture
def rows(alice: User) -> dict[str, int]:
    """Return a row's key for each model of the admin."""
    task = make_task(owner=alice)
    step = make_step(task)
    made = {
        "task": task,
        "step": step,
        "tasklog": make_log(task),
        "taskresult": TaskResult.objects.create(task=task, kind="answer"),
        "check": Check.objects.create(task=task, phase="after", command="x", verdict="passed"),
        "artifact": Artifact.objects.create(
            task=task, step=step, name="output", body=b"secret body", size_bytes=11
        ),
        "analysis": Analysis.objects.create(task=task, repository=task.repository),
        "taskanalytics": TaskAnalytics.objects.create(task=task),
    }
    return {name: row.pk for name, row in made.items()}


@pytest.mark.parametrize("name", NAMES)
def test_staff_reads_every_model_and_writes_none(
    page: Client, staff: User, rows: dict[str, int], name: str
) -> None:
    page.force_login(staff)
    assert page.get(f"/admin/tasks/{name}/").status_code == 200
    assert page.get(f"/admin/tasks/{name}/?q=x").status_code == 200
    change = f"/admin/tasks/{name}/{rows[name]}/change/"
    assert page.get(change).status_code == 200
    assert page.post(change, {"title": "x"}).status_code == 403
    assert page.get(f"/admin/tasks/{name}/add/").status_code == 403
    assert page.post(f"/admin/tasks/{name}/{rows[name]}/delete/").status_code == 403


def test_alice_has_no_admin(page: Client, alice: User) -> None:
    page.force_login(alice)
    assert page.get("/admin/tasks/task/").status_code == 302


def test_the_action_cancels_what_has_not_ended(page: Client, staff: User, alice: User) -> None:
    pending = make_task(owner=alice)
    ended = make_task(owner=alice, status=Status.COMPLETED, title="Ended")
    page.force_login(staff)
    answer = page.post(
        "/admin/tasks/task/",
        {"action": "cancel", "_selected_action": [str(pending.pk), str(ended.pk)]},
        follow=True,
    )
    pending.refresh_from_db()
    ended.refresh_from_db()
    assert (pending.status, ended.status) == (Status.CANCELLED, Status.COMPLETED)
    assert "already ended" in answer.content.decode()
