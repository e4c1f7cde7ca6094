"""Listing, showing, editing and cancelling tasks, their log and patch, over REST."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from repositories.models import RepositoryAccess
from tasks.models import Check, Status, Task, TaskResult
from tasks.tests.make import make_log, make_repository, make_task

PLAIN, ENVELOPE = "/api/v1/tasks", "/api/tasks"


@pytest.fixture
def as_alice(api: APIClient, alice: User) -> APIClient:
    api.force_authenticate(alice)
    return api


def make_finished(owner: User, **values: Any) -> Task:
    task = make_task(
        owner=owner,
        status=Status.COMPLETED,
        outcome="done",
        progress=100,
        charged_microcredits=22_000_001,
        **values,
    )
    TaskResult.objects.create(
        task=task,
        kind="code_changes",
        summary="Applied fix to login component",
        content="Fixed authentication bug...",
        diff="--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+2\n",
        data={"my_function": {"line_count": 3}},
    )
    Check.objects.create(
        task=task, phase="after", command="pytest -q", verdict="passed", exit_code=0, output="ok"
    )
    return task


def routes(task_id: object) -> list[tuple[str, str]]:
    return [
        ("get", f"{PLAIN}/{task_id}"),
        ("put", f"{PLAIN}/{task_id}"),
        ("delete", f"{PLAIN}/{task_id}"),
        ("post", f"{PLAIN}/{task_id}/cancel"),
        ("get", f"{PLAIN}/{task_id}/log"),
        ("get", f"{PLAIN}/{task_id}/patch"),
        ("get", f"{ENVELOPE}/{task_id}"),
        ("put", f"{ENVELOPE}/{task_id}/cancel"),
    ]


@pytest.mark.parametrize(
    ("method", "route"), [*routes(uuid.UUID(int=1)), ("get", PLAIN), ("get", ENVELOPE)]
)
def test_anonymous_gets_401(api: APIClient, db: None, method: str, route: str) -> None:
    assert getattr(api, method)(route).status_code == 401


@pytest.mark.parametrize("number", range(8))
def test_a_strangers_task_does_not_exist(
    api: APIClient, alice: User, mallory: User, number: int
) -> None:
    task = make_task(owner=alice)
    method, route = routes(task.pk)[number]
    api.force_authenticate(mallory)
    answer = getattr(api, method)(route, {"title": "mine"} if method == "put" else None)
    assert answer.status_code == 404
    assert "Fix it" not in answer.content.decode()
    task.refresh_from_db()
    assert (task.status, task.title) == (Status.PENDING, "Fix it")
    api.force_authenticate(alice)
    control = getattr(api, method)(route, {"title": "mine"} if method == "put" else None)
    assert control.status_code == (404 if route.endswith("/patch") else 200)


def test_a_stranger_lists_nothing(api: APIClient, alice: User, mallory: User) -> None:
    make_task(owner=alice)
    api.force_authenticate(mallory)
    for route in (PLAIN, ENVELOPE, f"{PLAIN}?repository_id={Task.objects.get().repository_id}"):
        assert Task.objects.get().title not in api.get(route).content.decode()


@pytest.mark.parametrize("number", range(8))
def test_a_viewer_reads_what_is_shared_and_changes_nothing(
    api: APIClient, alice: User, victor: User, number: int
) -> None:
    repository = make_repository(owner=alice)
    task = make_finished(alice, repository=repository)
    RepositoryAccess.objects.create(repository=repository, user=victor)
    method, route = routes(task.pk)[number]
    api.force_authenticate(victor)
    answer = getattr(api, method)(route)
    assert answer.status_code == (200 if method == "get" else 403)


def test_a_reader_of_the_repository_cannot_edit_or_cancel(
    api: APIClient, alice: User, mallory: User
) -> None:
    repository = make_repository(owner=alice)
    task = make_task(owner=alice, repository=repository)
    RepositoryAccess.objects.create(repository=repository, user=mallory, level="write")
    api.force_authenticate(mallory)
    assert api.get(f"{PLAIN}/{task.pk}").status_code == 200
    assert api.put(f"{PLAIN}/{task.pk}", {"title": "mine"}).status_code == 403
    assert api.delete(f"{PLAIN}/{task.pk}").status_code == 403
    task.refresh_from_db()
    assert (task.title, task.status) == ("Fix it", Status.PENDING)


def test_staff_sees_and_cancels_everyones(api: APIClient, alice: User, staff: User) -> None:
    task = make_task(owner=alice)
    api.force_authenticate(staff)
    assert api.get(PLAIN).json()["total"] == 1
    assert api.delete(f"{PLAIN}/{task.pk}").status_code == 200


def test_the_list_has_the_published_shape(as_alice: APIClient, alice: User) -> None:
    repository = make_repository(owner=alice)
    task = make_finished(alice, repository=repository)
    body = as_alice.get(ENVELOPE).json()
    assert body["meta"] == {"page": 1, "limit": 20, "total": 1, "totalPages": 1}
    (shown,) = body["data"]["tasks"]
    published = {
        "id": str(task.pk),
        "title": "Fix it",
        "status": "completed",
        "type": "debug",
        "priority": "medium",
        "creditsUsed": 23,
    }
    assert published.items() <= shown.items()
    assert {"createdAt", "completedAt"} <= shown.keys()
    assert (
        shown["repository"].items()
        >= {
            "name": repository.name,
            "fullName": repository.full_name,
        }.items()
    )
    assert shown["aiModel"].items() >= {"name": "builtin", "displayName": "Built-in engine"}.items()
    assert "prompt" not in shown


def test_a_task_has_the_published_shape(as_alice: APIClient, alice: User) -> None:
    task = make_finished(alice, branch="main")
    data = as_alice.get(f"{ENVELOPE}/{task.pk}").json()["data"]
    published = {"prompt": "Fix it", "branch": "main", "creditsUsed": 23, "status": "completed"}
    assert published.items() <= data.items()
    assert data["repository"]["id"] == str(task.repository_id)
    assert data["aiModel"]["id"] == str(task.model_id)
    (result,) = data["results"]
    assert {
        "resultType": "code_changes",
        "content": "Fixed authentication bug...",
        "summary": "Applied fix to login component",
    }.items() <= result.items()
    assert {"id", "createdAt"} <= result.keys()
    assert result["data"] == {"my_function": {"line_count": 3}}, "names in the code are not recased"
    assert data["checks"][0]["exitCode"] == 0


def test_a_task_that_failed_says_why(as_alice: APIClient, alice: User) -> None:
    task = make_task(
        owner=alice, status=Status.FAILED, error_code="cap_reached", error_message="Too dear."
    )
    body = as_alice.get(f"{PLAIN}/{task.pk}").json()
    assert body["error"] == {"code": "cap_reached", "message": "Too dear."}
    assert as_alice.get(PLAIN).json()["tasks"][0]["error_code"] == "cap_reached"


def test_a_task_without_repository_and_result_is_shown(as_alice: APIClient, alice: User) -> None:
    task = make_task(owner=alice, repository=None, type="build")
    body = as_alice.get(f"{PLAIN}/{task.pk}").json()
    assert (body["repository"], body["results"], body["error"]) == (None, [], None)
    assert as_alice.get(PLAIN).json()["tasks"][0]["repository"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "failed"}, {"b"}),
        ({"type": "ask"}, {"c"}),
        ({"status": "pending", "type": "debug"}, {"a"}),
        ({}, {"a", "b", "c"}),
    ],
)
def test_the_list_is_filtered(
    as_alice: APIClient, alice: User, query: dict[str, str], expected: set[str]
) -> None:
    make_task(owner=alice, title="a")
    make_task(owner=alice, title="b", status=Status.FAILED)
    make_task(owner=alice, title="c", type="ask")
    for route in (PLAIN, ENVELOPE):
        body = as_alice.get(route, query).json()
        tasks = body["tasks"] if route == PLAIN else body["data"]["tasks"]
        assert {task["title"] for task in tasks} == expected


def test_the_list_is_filtered_by_repository(as_alice: APIClient, alice: User) -> None:
    repository = make_repository(owner=alice)
    make_task(owner=alice, title="here", repository=repository)
    make_task(owner=alice, title="there")
    plain = as_alice.get(PLAIN, {"repository_id": str(repository.pk)}).json()["tasks"]
    camel = as_alice.get(ENVELOPE, {"repositoryId": str(repository.pk)}).json()["data"]["tasks"]
    assert [task["title"] for task in plain + camel] == ["here", "here"]


@pytest.mark.parametrize(
    "query", ["status=lost", "type=paint", "repository_id=mine", "limit=-1", "offset=x"]
)
def test_a_filter_that_means_nothing_is_refused(as_alice: APIClient, query: str) -> None:
    assert as_alice.get(f"{PLAIN}?{query}").status_code == 400


def test_pages_neither_repeat_nor_skip(as_alice: APIClient, alice: User) -> None:
    repository = make_repository(owner=alice)
    made = {str(make_task(owner=alice, repository=repository).pk) for _ in range(7)}
    plain = [
        task["id"]
        for offset in (0, 3, 6)
        for task in as_alice.get(f"{PLAIN}?limit=3&offset={offset}").json()["tasks"]
    ]
    paged = [
        task["id"]
        for page in (1, 2, 3, 4)
        for task in as_alice.get(f"{ENVELOPE}?limit=3&page={page}").json()["data"]["tasks"]
    ]
    assert len(plain) == len(paged) == 7
    assert set(plain) == set(paged) == made


def test_a_page_of_tasks_takes_two_queries(
    as_alice: APIClient, alice: User, django_assert_num_queries: Any
) -> None:
    for _ in range(5):
        make_finished(alice)
    with django_assert_num_queries(2):
        assert len(as_alice.get(PLAIN).json()["tasks"]) == 5


def test_a_task_takes_two_queries(
    as_alice: APIClient, alice: User, django_assert_num_queries: Any
) -> None:
    task = make_finished(alice)
    with django_assert_num_queries(2):
        as_alice.get(f"{PLAIN}/{task.pk}")


def test_a_pending_task_is_edited(as_alice: APIClient, alice: User) -> None:
    task = make_task(owner=alice, description="old")
    body = as_alice.put(f"{PLAIN}/{task.pk}", {"title": "New", "priority": "high"}).json()
    assert (body["title"], body["description"], body["priority"]) == ("New", "old", "high")


def test_editing_takes_no_other_field(as_alice: APIClient, alice: User) -> None:
    task = make_task(owner=alice)
    as_alice.put(
        f"{PLAIN}/{task.pk}",
        {"title": "New", "prompt": "Other", "status": "completed", "owner_id": str(uuid.uuid4())},
    )
    task.refresh_from_db()
    assert (task.title, task.prompt, task.status) == ("New", "Fix it", Status.PENDING)
    assert task.owner == alice


@pytest.mark.parametrize(
    "values", [{"title": ""}, {"title": None}, {"priority": "now"}, {"title": "t" * 201}]
)
def test_wrong_edits_are_refused(as_alice: APIClient, alice: User, values: dict[str, Any]) -> None:
    task = make_task(owner=alice)
    assert as_alice.put(f"{PLAIN}/{task.pk}", values).status_code == 400


def test_a_task_that_has_started_is_not_edited(as_alice: APIClient, alice: User) -> None:
    task = make_task(owner=alice, status=Status.RUNNING)
    answer = as_alice.put(f"{PLAIN}/{task.pk}", {"title": "New"})
    assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT")


@pytest.mark.parametrize("number", [2, 3, 7])
def test_cancelling_ends_a_pending_task_and_then_is_409(
    as_alice: APIClient, alice: User, number: int
) -> None:
    task = make_task(owner=alice)
    method, route = routes(task.pk)[number]
    answer = getattr(as_alice, method)(route)
    assert answer.status_code == 200
    data = answer.json().get("data") or answer.json()
    assert data["message"] == "Task cancelled successfully"
    task.refresh_from_db()
    assert task.status == Status.CANCELLED
    assert getattr(as_alice, method)(route).status_code == 409


def test_the_log_is_read_from_where_the_reader_left_off(as_alice: APIClient, alice: User) -> None:
    task = make_task(owner=alice)
    for number in range(5):
        make_log(task, message=f"line {number}", data={"camelCase": 1})
    route = f"{PLAIN}/{task.pk}/log"
    first = as_alice.get(f"{route}?limit=2").json()
    assert [event["sequence"] for event in first["events"]] == [1, 2]
    assert (first["next_after"], first["has_more"]) == (2, True)
    rest = as_alice.get(f"{route}?after=2").json()
    assert [event["message"] for event in rest["events"]] == ["line 2", "line 3", "line 4"]
    assert (rest["next_after"], rest["has_more"]) == (5, False)
    end = as_alice.get(f"{route}?after=5").json()
    assert (end["events"], end["next_after"], end["has_more"]) == ([], 5, False)
    assert set(rest["events"][0]) == {"sequence", "kind", "level", "message", "data", "created_at"}


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=1001", "after=9" * 30])
def test_a_place_in_the_log_that_means_nothing_is_refused(
    as_alice: APIClient, alice: User, query: str
) -> None:
    task = make_task(owner=alice)
    assert as_alice.get(f"{PLAIN}/{task.pk}/log?{query}").status_code == 400


def test_the_patch_is_a_file_for_git_apply(as_alice: APIClient, alice: User) -> None:
    task = make_finished(alice)
    route = as_alice.get(f"{PLAIN}/{task.pk}").json()["patch_url"]
    answer = as_alice.get(route)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/x-patch; charset=utf-8"
    assert answer["Content-Disposition"].startswith("attachment;")
    assert answer.content.decode() == task.result.diff


def test_a_task_without_changes_has_no_patch(as_alice: APIClient, alice: User) -> None:
    task = make_task(owner=alice)
    assert as_alice.get(f"{PLAIN}/{task.pk}").json()["patch_url"] is None
    answer = as_alice.get(f"{PLAIN}/{task.pk}/patch")
    assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_FOUND")


def test_a_slash_at_the_end_changes_nothing(as_alice: APIClient, alice: User) -> None:
    task = make_task(owner=alice)
    assert as_alice.get(f"{PLAIN}/{task.pk}/").json()["id"] == str(task.pk)
