"""What a task hands back, over the API: results, artifacts, patch and bundle."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from repositories.models import Repository, RepositoryAccess
from tasks.models import Artifact, Task
from tasks.tests.make import make_repository, make_step, make_task
from tasks.tests.story import completed_task
from tasks.tests.test_pages import make_store, run_git
from tasks.workspace import store_path

TASKS = "/api/v1/tasks"
KINDS = ["results", "artifacts", "artifacts/patch", "artifacts/step-2", "patch"]
HTML = b"<script>alert(document.cookie)</script>\x1b[31m\xff"


@pytest.fixture
def task(alice: User) -> Task:
    return completed_task(alice, repository=make_repository(owner=alice))


def route(task: Task, kind: str) -> str:
    return f"{TASKS}/{task.pk}/{kind}"


@pytest.mark.parametrize("kind", [*KINDS, "bundle", "artifacts/bundle"])
def test_nobody_else_is_given_anything(
    api: APIClient, mallory_api: APIClient, task: Task, kind: str
) -> None:
    assert api.get(route(task, kind)).status_code == 401
    refused = mallory_api.get(route(task, kind))
    assert (refused.status_code, refused.json()["code"]) == (404, "RESOURCE_NOT_FOUND")
    assert "invoice" not in refused.content.decode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_viewer_reads_what_is_shared(
    victor_api: APIClient, victor: User, task: Task, kind: str
) -> None:
    assert victor_api.get(route(task, kind)).status_code == 404
    repository = Repository.objects.get(tasks=task)
    RepositoryAccess.objects.create(repository=repository, user=victor)
    assert victor_api.get(route(task, kind)).status_code == 200
    assert victor_api.post(route(task, kind)).status_code in (403, 405)


def test_results_hold_what_was_made_and_its_proof(alice_api: APIClient, task: Task) -> None:
    body = alice_api.get(route(task, "results")).json()
    assert (body["task_id"], body["status"], body["outcome"]) == (str(task.pk), "completed", "done")
    (result,) = body["results"]
    assert result["result_type"] == "code_changes"
    assert result["diff"] == task.result.diff
    assert body["checks"][0].keys() >= {"command", "exit_code", "verdict", "output", "phase"}
    for name in ("patch_url", "bundle_url", "artifacts_url"):
        assert body[name].startswith(f"{TASKS}/{task.pk}/")


def test_a_task_without_results_has_none(alice_api: APIClient, alice: User) -> None:
    task = make_task(owner=alice)
    body = alice_api.get(route(task, "results")).json()
    assert (body["results"], body["patch_url"], body["bundle_url"]) == ([], None, None)
    assert alice_api.get(route(task, "artifacts")).json()["artifacts"] == []
    for kind in ("patch", "bundle", "artifacts/patch", "artifacts/bundle", "artifacts/step-1"):
        answer = alice_api.get(route(task, kind))
        assert (answer.status_code, answer.json()["code"]) == (404, "RESOURCE_NOT_FOUND")


def test_every_artifact_that_is_listed_is_there(
    alice_api: APIClient, task: Task, tmp_path: Path
) -> None:
    base, head = make_store(store_path(task.pk), tmp_path / "work")
    Task.objects.filter(pk=task.pk).update(base_commit=base, head_commit=head)
    listed = alice_api.get(route(task, "artifacts")).json()["artifacts"]
    identifiers = [one["id"] for one in listed]
    assert identifiers[:2] == ["patch", "bundle"]
    assert all(one.startswith("step-") for one in identifiers[2:])
    assert len(identifiers) > 3
    for one in listed:
        answer = alice_api.get(one["url"])
        assert answer.status_code == 200, one
        assert answer["Content-Disposition"] == f'attachment; filename="{one["name"]}"'
        assert answer["Content-Type"] == one["content_type"]
        assert one["size_bytes"] in (None, len(answer.content))


def test_the_bundle_is_fetched_like_a_remote(
    alice_api: APIClient, task: Task, tmp_path: Path
) -> None:
    base, head = make_store(store_path(task.pk), tmp_path / "work")
    Task.objects.filter(pk=task.pk).update(base_commit=base, head_commit=head)
    (tmp_path / "task.bundle").write_bytes(alice_api.get(route(task, "bundle")).content)
    heads = run_git(tmp_path, "bundle", "list-heads", "task.bundle")
    assert heads.split()[0] == head


def test_a_bundle_whose_commits_are_gone_is_not_there(alice_api: APIClient, task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(base_commit="1" * 40, head_commit="2" * 40)
    assert alice_api.get(route(task, "bundle")).status_code == 404


def test_a_steps_whole_output_is_text_to_keep_whatever_it_says(
    alice_api: APIClient, task: Task
) -> None:
    step = make_step(task, ordinal=99, outcome='{"text": "cut"}')
    Artifact.objects.create(task=task, step=step, name="x", body=HTML, size_bytes=len(HTML))
    answer = alice_api.get(route(task, "artifacts/step-99"))
    assert answer.content.decode() == HTML.decode("utf-8", "replace")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "sandbox"
    assert answer["Content-Disposition"].startswith("attachment;")


def test_an_output_that_is_short_comes_from_the_journal(alice_api: APIClient, task: Task) -> None:
    make_step(task, ordinal=99, outcome='{"text": "whole"}')
    make_step(task, ordinal=98, state="started")
    make_step(task, ordinal=97, kind="model_call", name="model")
    assert alice_api.get(route(task, "artifacts/step-99")).content == b"whole"
    for number in (98, 97):
        assert alice_api.get(route(task, f"artifacts/step-{number}")).status_code == 404


@pytest.mark.parametrize("name", ["x", "step-", "step-x", "step-0", "step--1", "step-" + "9" * 30])
def test_what_is_no_artifact_is_404(alice_api: APIClient, task: Task, name: str) -> None:
    assert alice_api.get(route(task, f"artifacts/{name}")).status_code == 404


def test_an_artifact_belongs_to_its_task(mallory_api: APIClient, mallory: User, task: Task) -> None:
    own = make_task(owner=mallory)
    step = make_step(task, ordinal=99, outcome='{"text": "secret"}')
    for name in (f"step-{step.ordinal}", str(uuid.uuid4())):
        assert mallory_api.get(route(own, f"artifacts/{name}")).status_code == 404


def test_the_list_of_artifacts_reads_no_bodies(
    api: APIClient, alice: User, task: Task, django_assert_max_num_queries: Any
) -> None:
    api.force_authenticate(alice)
    for number in range(100, 110):
        step = make_step(task, ordinal=number)
        Artifact.objects.create(task=task, step=step, name="x", body=b"x", size_bytes=1)
    with django_assert_max_num_queries(4) as queries:
        listed = api.get(route(task, "artifacts")).json()["artifacts"]
    assert listed[-1]["size_bytes"] == 1
    assert not any('"body"' in query["sql"] for query in queries)
