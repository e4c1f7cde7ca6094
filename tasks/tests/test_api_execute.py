"""POST /api/v1/execute: what S3 sends, what is refused, and a result that is ready in time."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import keys
from accounts.models import User
from asynccoder.tests.processes import wait_for
from tasks import events, live, streams
from tasks.events import Event
from tasks.models import Status, Task, TaskResult
from tasks.tests.make import make_model, make_repository, make_task
from tasks.tests.story import end

ROUTE = "/api/v1/execute"
STREAM = f"{ROUTE}/stream"
EXAMPLE = {
    "task_type": "implement",
    "prompt": "Create a React component for user authentication",
    "files": [],
    "context": {"persona": "developer", "framework": "react"},
}


@pytest.fixture(autouse=True)
def _model(db: None, settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-platform-key"
    make_model()
    make_model(provider="openai", name="scripted", display_name="Scripted", context_window=100_000)


@pytest.mark.parametrize("route", [ROUTE, STREAM])
def test_anonymous_and_viewers_start_nothing(
    api: APIClient, victor_api: APIClient, route: str
) -> None:
    assert api.post(route, EXAMPLE).status_code == 401
    assert victor_api.post(route, EXAMPLE).status_code == 403
    assert not Task.objects.exists()


@pytest.mark.parametrize("route", [ROUTE, STREAM])
def test_a_strangers_repository_does_not_exist(
    mallory_api: APIClient, alice: User, route: str
) -> None:
    repository = make_repository(owner=alice)
    body = EXAMPLE | {"repository_id": str(repository.pk)}
    # Under WSGI there are no streams at all: what counts is that nothing was started.
    assert mallory_api.post(route, body).status_code in (404, 503)
    assert not Task.objects.exists()


def test_the_published_example(alice_api: APIClient, alice: User) -> None:
    answer = alice_api.post(ROUTE, EXAMPLE)
    assert answer.status_code == 202, answer.json()
    task = Task.objects.get()
    assert (task.owner, task.type, task.prompt) == (alice, "implement", EXAMPLE["prompt"])
    assert task.parameters == EXAMPLE["context"]
    published = {
        "task_id": str(task.pk),
        "task_type": "implement",
        "status": "pending",
        "progress": 0,
        "model": "scripted",
        "result": None,
        "error": None,
        "task_url": f"/api/v1/tasks/{task.pk}",
        "stream_url": f"/api/v1/tasks/{task.pk}/stream",
    }
    assert published.items() <= answer.json().items()
    assert alice_api.get(answer.json()["task_url"]).status_code == 200


def test_files_repository_and_model_are_taken(alice_api: APIClient, alice: User) -> None:
    repository = make_repository(owner=alice)
    body = {
        "task_type": "debug",
        "prompt": "Fix it",
        "files": [{"path": "a.py", "content": "x = 1\n"}],
        "context": {"persona": "a"},
        "parameters": {"persona": "b", "deep": True},
        "model": "builtin",
        "repository_id": str(repository.pk),
    }
    assert alice_api.post(ROUTE, body).status_code == 202
    task = Task.objects.get()
    assert (task.repository, task.model.name) == (repository, "builtin")
    assert task.files == body["files"]
    assert task.parameters == {"persona": "b", "deep": True}


@pytest.mark.parametrize(
    "wrong",
    [
        {"task_type": "paint"},
        {"task_type": None},
        {"prompt": ""},
        {"prompt": None},
        {"files": [{"path": "/etc/passwd", "content": ""}]},
        {"files": [{"path": "a"}]},
        {"files": "a"},
        {"context": [1]},
        {"context": {"a": "x" * 70_000}},
        {"repository_id": "mine"},
        {"task_type": "ask"},
    ],
)
def test_a_refused_value_is_400(alice_api: APIClient, wrong: dict[str, Any]) -> None:
    answer = alice_api.post(ROUTE, EXAMPLE | wrong)
    assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_ERROR")
    assert not Task.objects.exists()


@pytest.mark.parametrize("wait", ["61", "-1", "x", "nan", "1.5"])
def test_a_wait_that_means_nothing_is_refused(alice_api: APIClient, wait: str) -> None:
    assert alice_api.post(f"{ROUTE}?wait={wait}", EXAMPLE).status_code == 400
    assert not Task.objects.exists()


def finish(task: Task) -> None:
    TaskResult.objects.create(
        task=task, kind="code_changes", summary="Made", diff="+x", files=[{"path": "a.py"}]
    )
    end(task, Status.COMPLETED, progress=100, outcome="done", completed_at=timezone.now())
    events.append(task.pk, Event("task.completed"))


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_a_result_that_comes_in_time_is_the_answer(alice_api: APIClient) -> None:
    def work() -> None:
        try:
            wait_for(lambda: Task.objects.exists(), what="the task is there")
            finish(Task.objects.get())
        finally:
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    answer = alice_api.post(f"{ROUTE}?wait=60", EXAMPLE)
    worker.join()
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["progress"]) == ("completed", 100)
    result = body["result"]
    assert (result["summary"], result["diff"]) == ("Made", "+x")
    assert (result["result_type"], result["generated_files"]) == ("code_changes", ["a.py"])
    assert not streams.places._open
    assert not streams.waits._open


@pytest.mark.django_db(transaction=True)
def test_a_result_that_does_not_come_in_time_is_202(alice_api: APIClient) -> None:
    answer = alice_api.post(f"{ROUTE}?wait=1", EXAMPLE)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")


@pytest.mark.parametrize("limit", ["STREAMS_PER_USER", "WAITS_PER_PROCESS"])
def test_where_too_many_wait_the_next_is_answered_at_once(
    alice_api: APIClient, settings: Any, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    def hub(source: Any) -> Any:
        raise AssertionError("it waits")

    monkeypatch.setattr(live, "hub", hub)
    setattr(settings, limit, 0)
    answer = alice_api.post(f"{ROUTE}?wait=60", EXAMPLE)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert not streams.places._open
    assert not streams.waits._open


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_a_request_that_waits_holds_no_connection(alice_api: APIClient) -> None:
    waiting = connections["default"]
    if waiting.vendor == "sqlite":
        pytest.skip("a connection to SQLite is a file that nobody waits for")
    seen = []

    def work() -> None:
        try:
            wait_for(lambda: Task.objects.exists(), what="the task is there")
            wait_for(lambda: waiting.connection is None, what="the connection was given back")
            seen.append("no connection")
        finally:
            finish(Task.objects.get())
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    assert alice_api.post(f"{ROUTE}?wait=60", EXAMPLE).status_code == 200
    worker.join()
    assert seen == ["no connection"]


def test_a_used_key_answers_with_the_first_task(alice_api: APIClient) -> None:
    first = alice_api.post(ROUTE, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k").json()
    finish(Task.objects.get())
    again = alice_api.post(ROUTE, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k")
    assert (again.status_code, again.json()["task_id"]) == (200, first["task_id"])
    other = alice_api.post(ROUTE, EXAMPLE | {"prompt": "x"}, HTTP_IDEMPOTENCY_KEY="k")
    assert other.status_code == 409


def test_a_failure_is_told(alice_api: APIClient, alice: User) -> None:
    body = EXAMPLE | {"task_type": "implement"}
    alice_api.post(ROUTE, body, HTTP_IDEMPOTENCY_KEY="k")
    task = Task.objects.get()
    end(task, Status.FAILED, error_code="cap_reached", error_message="Too dear.")
    again = alice_api.post(ROUTE, body, HTTP_IDEMPOTENCY_KEY="k").json()
    assert again["error"] == {"code": "cap_reached", "message": "Too dear."}
    assert again["result"] is None


# --- Streams, as far as they do not depend on the server ----------------------------------------


def test_joining_is_for_those_who_may_look(
    api: APIClient, alice_api: APIClient, mallory_api: APIClient, alice: User
) -> None:
    route = f"/api/v1/tasks/{make_task(owner=alice).pk}/stream"
    assert api.get(route).status_code == 401
    assert mallory_api.get(route).status_code == 404
    served_elsewhere = alice_api.get(route)
    assert (served_elsewhere.status_code, served_elsewhere.json()["code"]) == (
        503,
        "SERVICE_UNAVAILABLE",
    )


def test_a_stream_that_cannot_be_served_starts_nothing(alice_api: APIClient) -> None:
    assert alice_api.post(STREAM, EXAMPLE).status_code == 503
    assert not Task.objects.exists()


def test_who_has_seen_the_end_is_told_not_to_come_again(alice_api: APIClient, alice: User) -> None:
    task = make_task(owner=alice)
    finish(task)
    task.refresh_from_db()
    route = f"/api/v1/tasks/{task.pk}/stream"
    last = str(task.event_sequence)
    assert alice_api.get(route, HTTP_LAST_EVENT_ID=last).status_code == 204
    assert alice_api.get(route, HTTP_LAST_EVENT_ID="0").status_code == 503


@pytest.mark.parametrize("place", ["x", "-1", "1.5", "9" * 30, "٣"])
def test_a_place_that_means_nothing_is_refused(
    alice_api: APIClient, alice: User, place: str
) -> None:
    route = f"/api/v1/tasks/{make_task(owner=alice).pk}/stream"
    assert alice_api.get(route, {"after": place}).status_code == 400


def key_of(user: User, *scopes: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_X_API_KEY=keys.create(user=user, name="k", scopes=list(scopes))[1])
    return client


@pytest.mark.parametrize("route", [STREAM, f"{ROUTE}?wait=1"])
def test_a_key_needs_both_scopes_to_start_and_follow(alice: User, route: str) -> None:
    for scope in ("task:create", "task:read"):
        assert key_of(alice, scope).post(route, EXAMPLE).status_code == 403
    assert not Task.objects.exists()


def test_a_key_with_both_scopes_starts_and_follows(alice: User, settings: Any) -> None:
    settings.WAITS_PER_PROCESS = 0
    key = key_of(alice, "task:create", "task:read")
    assert key.post(STREAM, EXAMPLE).status_code == 503, "let through, to a server without streams"
    assert key.post(f"{ROUTE}?wait=1", EXAMPLE).status_code == 202


def test_a_key_that_may_not_read_is_shown_no_result_by_an_idempotency_key(alice: User) -> None:
    def post(*scopes: str) -> dict[str, Any]:
        answer = key_of(alice, *scopes).post(ROUTE, EXAMPLE, HTTP_IDEMPOTENCY_KEY="k")
        shown: dict[str, Any] = answer.json()
        return shown

    post("task:create")
    finish(Task.objects.get())
    blind = post("task:create")
    assert (blind["status"], blind["result"]) == ("completed", None)
    assert post("task:create", "task:read")["result"]["summary"] == "Made"
