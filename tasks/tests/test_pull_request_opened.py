"""A finished change on GitHub ends in one pull request, also when the worker dies while it opens it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import FeedEvent, GithubAccount, User
from asynccoder.tests.github_server import TOKEN, FakeGithub, Fault
from asynccoder.tests.processes import Process, descendants, wait_for
from repositories import connect, git, pull_requests
from repositories.models import PullRequest, Repository
from repositories.tests.github_server import connect_account, serve_git
from repositories.tests.make import plain_git
from tasks.models import Status, Step, Task
from tasks.tests.test_forkserver import is_alive
from tasks.tests.test_run_in_process import run
from tasks.tests.world import World, bash, build_world, finish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(400)]
POST = "POST .*/pulls$"


@pytest.fixture
def repository(alice: User, github: FakeGithub, tmp_path: Path) -> Repository:
    """A private repository on GitHub that alice has connected by its address."""
    connect_account(alice, github)
    serve_git(github, tmp_path, "octo/app")
    made: Repository = Repository.objects.create(
        owner=alice,
        kind="github",
        name="app",
        full_name="octo/app",
        url=f"{github.url}/octo/app.git",
    )
    return made


def branches(tmp_path: Path) -> str:
    return plain_git("branch", "--list", cwd=tmp_path / "served/octo/app.git")


def assert_one(task: Task, github: FakeGithub) -> PullRequest:
    """There is one pull request, at GitHub and here, and the task names it."""
    task.refresh_from_db()
    assert (task.status, task.error_message, task.is_pushed) == (Status.COMPLETED, "", True)
    stored = PullRequest.objects.get()
    assert [pull["head"]["ref"] for pull in github.pulls["octo/app"]] == [task.result_branch]
    assert task.result.pull_request == stored
    assert task.result.pull_request_url == stored.url == f"{github.url}/octo/app/pull/1"
    event = FeedEvent.objects.get(event="task:completed")
    assert event.data["result"] == {"type": "code_changes", "pullRequestUrl": stored.url}
    return stored


def test_a_change_is_pushed_and_its_pull_request_opened(
    alice: User, alice_api: APIClient, page: Client, repository: Repository, github: FakeGithub
) -> None:
    task = run(alice, type="documentation", repository=repository)
    stored = assert_one(task, github)
    there = github.pulls["octo/app"][0]
    assert (there["title"], there["base"]["ref"]) == (task.title, "main")
    assert f"/tasks/{task.pk}/" in there["body"]
    shown = alice_api.get(f"/api/tasks/{task.pk}").json()["data"]
    assert shown["pullRequestUrl"] == stored.url
    page.force_login(alice)
    pane = page.get(f"/tasks/{task.pk}/?tab=result").content.decode()
    assert f'href="{stored.url}"' in pane
    assert "Pull request #1" in pane
    assert TOKEN not in repr(list(Step.objects.values())) + repr(list(task.log.values()))


def test_work_on_a_branch_goes_back_to_that_branch(
    alice: User, repository: Repository, github: FakeGithub, tmp_path: Path
) -> None:
    plain_git("branch", "side", "main", cwd=tmp_path / "served/octo/app.git")
    run(alice, type="documentation", repository=repository, branch="side")
    assert PullRequest.objects.get().base_branch == "side"


def test_a_task_that_changes_nothing_opens_nothing(
    alice: User, repository: Repository, github: FakeGithub
) -> None:
    task = run(alice, type="ask", repository=repository, prompt="Where is add?")
    assert task.status == Status.COMPLETED
    assert (github.requests("pulls"), PullRequest.objects.count()) == ([], 0)


@pytest.mark.parametrize("status", [401, 403, 422, 500])
def test_without_its_pull_request_the_task_is_done_and_says_so(
    status: int,
    alice: User,
    page: Client,
    repository: Repository,
    github: FakeGithub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pull_requests, "PAUSES", (0.0, 0.0))
    github.faults = [Fault(POST, status=status, body=b'{"message": "Nobody may"}')]
    task = run(alice, type="documentation", repository=repository)
    assert (task.status, task.outcome, task.is_pushed) == (Status.COMPLETED, "done", True)
    assert task.result_branch in branches(tmp_path)
    note = task.result.data["pull_request_note"]
    assert note.startswith("The branch is pushed; no pull request was opened: ")
    assert (task.result.pull_request_url, PullRequest.objects.count()) == ("", 0)
    page.force_login(alice)
    assert "no pull request was opened" in page.get(f"/tasks/{task.pk}/").content.decode()


def test_a_branch_that_another_credential_pushed_has_none(
    alice: User, repository: Repository, github: FakeGithub
) -> None:
    GithubAccount.objects.all().delete()
    connect._seal(repository, git.Credential("bot", TOKEN))
    repository.save()
    task = run(alice, type="documentation", repository=repository)
    assert (task.status, task.is_pushed) == (Status.COMPLETED, True)
    assert (github.requests("pulls"), task.result.pull_request_url) == ([], "")


# --- Real workers, killed while they open it -----------------------------------------------------
@pytest.fixture
def world(
    alice: User,
    worker_process: Callable[..., Process],
    repository: Repository,
    github: FakeGithub,
    tmp_path: Path,
    settings: Any,
) -> Iterator[World]:
    settings.OPENAI_API_KEY = "sk-platform-key"
    script = [bash("echo new >> README.md"), *finish()]
    with build_world(alice, script, worker_process, tmp_path / "other") as made:
        made.repository = repository
        made.environment |= {"GITHUB_URL": github.url, "GITHUB_API_URL": github.api}
        yield made


@pytest.mark.services
@pytest.mark.parametrize("is_opened", [True, False])
def test_kill_9_while_it_is_opened_leaves_one(
    world: World, github: FakeGithub, is_opened: bool
) -> None:
    """GitHub has opened it and not said so yet; or has not even begun."""
    hang = threading.Event()
    github.faults = [Fault(POST, hang=hang, after=is_opened, times=1)]
    task = world.create()
    worker = world.worker()
    wait_for(lambda: github.requests(POST), seconds=90, what="the pull request is asked for")
    assert len(github.pulls.get("octo/app", [])) == int(is_opened)
    below = descendants(worker.pid)
    worker.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in below), what="nothing is left of the worker")
    hang.set()
    world.worker()
    world.finished(task, seconds=90)
    assert_one(task, github)
    assert len(github.requests(POST)) == 2 - int(is_opened)
    assert task.steps.filter(name="pull request", state=Step.State.LOST).count() == 1
    assert task.steps.filter(name="push").count() == 1


@pytest.mark.services
def test_a_worker_that_was_thought_dead_opens_no_second(world: World, github: FakeGithub) -> None:
    hang = threading.Event()
    github.faults = [Fault("GET .*/pulls$", hang=hang, times=1)]
    task = world.create()
    stale = world.worker()
    wait_for(lambda: github.requests("GET .*/pulls$"), seconds=90, what="it looks for one")
    frozen = [stale.pid, *descendants(stale.pid)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    world.worker()
    world.finished(task, seconds=90)
    before = list(task.log.values_list("sequence", "kind"))
    hang.set()
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: "lease is lost" in stale.output() or "ended by" in stale.output(), seconds=60)
    assert_one(task, github)
    assert len(github.requests(POST)) == 1
    assert list(task.log.values_list("sequence", "kind")) == before
