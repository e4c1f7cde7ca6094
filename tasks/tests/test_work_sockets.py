"""The sockets of builds and analyses: what S2 prints, field by field, and who may listen."""

from __future__ import annotations

import re
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from accounts import keys
from accounts.models import User
from repositories.models import RepositoryAccess
from tasks import events
from tasks.events import Event
from tasks.models import Analysis, Status, Task, TaskResult
from tasks.tests.make import make_repository, make_task
from tasks.tests.story import end
from tasks.tests.test_sockets import (  # noqa: F401 - a fixture for every test
    _no_connection_is_left,
    close_code,
    connected,
    received,
    token_of,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
FIGURES: dict[str, Any] = {
    "quality_score": 8.5,
    "security_issues": [{"issue": "SQL Injection", "severity": "high", "line": 42}],
    "code_smells": 5,
    "type_errors": 0,
    "coverage_percent": 87.5,
    "recommendations": ["Extract complex methods"],
}


def make_work(owner: User, kind: str, **values: Any) -> Task:
    """Write a task as it waits, with its first event."""
    task = make_task(owner=owner, type=kind, **values)
    events.append(task.pk, Event("task.created", "The task waits for a worker."))
    return task


def run(task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(status=Status.RUNNING, progress=45)
    data = {"progress": 45, "step": "Generating code"}
    events.append(task.pk, Event("task.progressed", "Generating code", data=data))


def complete(task: Task) -> None:
    files = [{"path": "auth.py", "status": "added"}, {"path": "models.py", "status": "modified"}]
    data = {"tests_passed": 12, "test_coverage": 87.5}
    TaskResult.objects.create(task=task, kind="code_changes", files=files, data=data)
    if task.type == "analysis":
        Analysis.objects.create(task=task, repository=task.repository, **FIGURES)
    end(task, Status.COMPLETED, progress=100, outcome="done")
    events.append(task.pk, Event("task.completed"))


def published(message: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the fields that S2 prints, but for the time, which only has to be one."""
    assert MOMENT.fullmatch(message["timestamp"])
    return {name: message[name] for name in names}


@pytest.mark.parametrize("kind", ["build", "analysis"])
async def test_the_messages_are_those_published(alice: User, kind: str) -> None:
    task = await sync_to_async(make_work)(alice, kind)
    token = await sync_to_async(token_of)(alice)
    named = {"task_id": str(task.pk)}
    async with connected(f"/api/ws/{kind}/{task.pk}?token={token}") as socket:
        hello, waiting = await received(socket, 2)
        assert published(hello, "type", "task_id", "message", "sequence") == named | {
            "type": "connected", "message": f"Connected to {kind} updates", "sequence": 0,
        }  # fmt: skip
        assert hello["status"] == waiting["status"] == "initializing"
        await sync_to_async(run)(task)
        (step,) = await received(socket, 1)
        assert published(step, "type", "task_id", "status", "progress", "sequence") == named | {
            "type": "progress", "status": "running", "progress": 45, "sequence": 2,
        }  # fmt: skip
        assert step["data"]["current_step"] == "Generating code"
        assert step["data"]["files_created"] is None
        await sync_to_async(complete)(task)
        (last,) = await received(socket, 1)
        assert published(last, "type", "task_id", "status", "sequence") == named | {
            "type": "completion", "status": "completed", "sequence": 3,
        }  # fmt: skip
        expected = {"generated_files": ["auth.py", "models.py"], "tests_passed": 12}
        expected |= {"test_coverage": 87.5} | (FIGURES if kind == "analysis" else {})
        assert expected.items() <= last["results"].items()
        assert await close_code(socket) == 1000


@pytest.mark.parametrize("kind", ["build", "analysis"])
async def test_a_failure_is_the_published_error(alice: User, kind: str) -> None:
    task = await sync_to_async(make_work)(alice, kind)
    await sync_to_async(end)(
        task, Status.FAILED, error_code="deadline", error_message="Command execution timeout"
    )
    await sync_to_async(events.append)(task.pk, Event("task.failed"))
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/{kind}/{task.pk}?token={token}&after=1") as socket:
        _, last = await received(socket, 2)
        assert published(last, "type", "task_id", "status", "error", "sequence") == {
            "type": "error", "task_id": str(task.pk), "status": "failed",
            "error": "Command execution timeout", "sequence": 2,
        }  # fmt: skip
        assert await close_code(socket) == 1000


async def test_the_word_for_waiting_is_that_of_the_route(alice: User) -> None:
    task = await sync_to_async(make_work)(alice, "build", prompt='"status":"pending"')
    token = await sync_to_async(token_of)(alice)
    for kind, status in (("task", "pending"), ("build", "initializing")):
        async with connected(f"/api/ws/{kind}/{task.pk}?token={token}") as socket:
            assert [message["status"] for message in await received(socket, 2)] == [status] * 2


async def test_only_the_own_status_is_renamed(alice: User) -> None:
    task = await sync_to_async(make_work)(alice, "build")
    said = {"status": "pending", "text": '"status":"pending"'}
    await sync_to_async(events.append)(task.pk, Event("log.written", data=said))
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/build/{task.pk}?token={token}&after=1") as socket:
        _, told = await received(socket, 2)
        assert told["status"] == "initializing"
        assert said.items() <= told["data"].items()


@pytest.mark.parametrize(("kind", "other"), [("build", "analysis"), ("analysis", "build")])
async def test_one_kind_is_not_the_other(alice: User, kind: str, other: str) -> None:
    task = await sync_to_async(make_work)(alice, kind)
    token = await sync_to_async(token_of)(alice)
    async with connected(f"/api/ws/{other}/{task.pk}?token={token}") as socket:
        assert await close_code(socket) == 4404


async def test_a_viewer_listens_to_what_is_shared(alice: User, victor: User) -> None:
    repository = await sync_to_async(make_repository)(owner=alice)
    task = await sync_to_async(make_work)(alice, "build", repository=repository)
    path = f"/api/ws/build/{task.pk}?token={await sync_to_async(token_of)(victor)}"
    async with connected(path) as socket:
        assert await close_code(socket) == 4403
    await RepositoryAccess.objects.acreate(repository=repository, user=victor)
    async with connected(path) as socket:
        assert (await received(socket, 1))[0]["type"] == "connected"


@pytest.mark.parametrize("kind", ["build", "analysis", "task"])
async def test_a_key_listens_with_the_scope_of_the_kind(alice: User, kind: str) -> None:
    task = await sync_to_async(make_work)(alice, "debug" if kind == "task" else kind)
    make_key = sync_to_async(keys.create)
    for scope in ("build:read", "analysis:read", "task:read"):
        _, text = await make_key(user=alice, name="k", scopes=[scope])
        async with connected(f"/api/ws/{kind}/{task.pk}?token={text}") as socket:
            if scope == f"{kind}:read":
                assert (await received(socket, 1))[0]["type"] == "connected"
            else:
                assert await close_code(socket) == 4401
