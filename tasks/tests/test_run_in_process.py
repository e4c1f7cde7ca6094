"""Runs by the built-in engine in this very process: what each type starts from and hands back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from repositories import connect
from repositories.models import Repository
from tasks import lease, lifecycle, runner
from tasks.lifecycle import TaskRequest
from tasks.models import Step, Task
from tasks.tests.make import make_model
from tasks.tests.world import commit_files, run_git

pytestmark = pytest.mark.django_db(transaction=True)
BROKEN = "def is_yen(code):\n    return code is 'JPY'\n"
TEST = "from app import is_yen\n\n\ndef test_yen():\n    assert is_yen(''.join(['J', 'P', 'Y']))\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    commit_files(tmp_path / "project", {"app.py": "def one():\n    return 1\n"})
    return tmp_path / "project"


@pytest.fixture
def repository(alice: User, folder: Path) -> Repository:
    return connect.connect_repository(owner=alice, url=str(folder), is_operator=True)


def run(owner: User, **values: Any) -> Task:
    """Create a task, claim it and run it here."""
    defaults: dict[str, Any] = {"prompt": "Look at it.", "model": make_model()}
    request = TaskRequest(**(defaults | values))
    task, _ = lifecycle.create_task(owner=owner, request=request, ring=False)
    claimed = lease.claim(worker="here", only=task.pk)
    assert claimed is not None
    runner.run(claimed)
    task.refresh_from_db()
    return task


def ended(task: Task) -> tuple[str, str, str]:
    return (task.status, task.outcome, task.error_message)


def test_a_branch_is_reviewed_against_its_base(
    alice: User, repository: Repository, folder: Path
) -> None:
    commit_files(folder, {"app.py": "def one():\n    return 1\n\n\n" + BROKEN}, branch="new")
    run_git(folder, "checkout", "-q", "main")
    task = run(alice, type="pr_review", repository=repository, branch="new", target_branch="main")
    assert ended(task) == ("completed", "done", "")
    assert task.result.kind == "review"
    assert [finding["line"] for finding in task.result.data["findings"]] == [6]
    assert task.result_branch == ""


def test_a_patch_is_reviewed_on_its_changed_lines(
    alice: User, repository: Repository, folder: Path
) -> None:
    (folder / "app.py").write_text("def one():\n    return 1\n\n\n" + BROKEN)
    patch = run_git(folder, "diff")
    run_git(folder, "checkout", "-q", "--", ".")
    task = run(alice, type="pr_review", repository=repository, patch=patch)
    assert ended(task) == ("completed", "done", "")
    assert [finding["line"] for finding in task.result.data["findings"]] == [6]


def test_a_patch_that_does_not_apply_is_the_users_side(alice: User, repository: Repository) -> None:
    patch = "--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-x\n+y\n"
    task = run(alice, type="pr_review", repository=repository, patch=patch)
    assert (task.status, task.error_code) == ("failed", "patch_refused")


def test_a_cure_is_kept_where_the_remote_refuses_it(
    alice: User, repository: Repository, folder: Path
) -> None:
    commit_files(folder, {"app.py": BROKEN, "test_app.py": TEST})
    run_git(folder, "config", "receive.hideRefs", "refs/heads/asynccoder")
    task = run(alice, type="debug", repository=repository)
    assert ended(task) == ("completed", "done", "")
    assert (task.is_pushed, bool(task.result_branch)) == (False, True)
    push = task.steps.get(kind=Step.Kind.PLATFORM, name="push")
    assert push.summary.startswith("Kept here")
    assert task.result_branch not in run_git(folder, "branch", "--list")


def test_an_overview_is_written_and_pushed(
    alice: User, repository: Repository, folder: Path
) -> None:
    task = run(alice, type="documentation", repository=repository)
    assert ended(task) == ("completed", "done", "")
    assert [file["path"] for file in task.result.files] == ["docs/OVERVIEW.md"]
    assert "one" in run_git(folder, "show", f"{task.result_branch}:docs/OVERVIEW.md")


def test_a_setup_runs_before_the_checks_and_its_ignored_files_stay_out(
    alice: User, repository: Repository, folder: Path
) -> None:
    commit_files(folder, {"app.py": BROKEN, "test_app.py": TEST, ".gitignore": "made/\n"})
    Repository.objects.update(
        setup_command="mkdir made && echo ready > made/it",
        check_commands=["grep -q ready made/it", "python -m pytest -q"],
    )
    repository.refresh_from_db()
    task = run(alice, type="debug", repository=repository)
    assert ended(task) == ("completed", "done", "")
    verdicts = {(check.phase, check.command): check.verdict for check in task.checks.all()}
    assert verdicts["before", "grep -q ready made/it"] == "passed"
    assert verdicts["after", "python -m pytest -q"] == "passed"
    assert [file["path"] for file in task.result.files] == ["app.py"]


def told(task: Task) -> list[str]:
    """Return what the log says of the setup."""
    messages = task.log.values_list("message", flat=True)
    return [text.split(":")[0] for text in messages if text.startswith("Setup")]


@pytest.mark.timeout(400)
def test_what_a_setup_makes_and_git_does_not_ignore_is_no_change_either(
    alice: User, repository: Repository, folder: Path
) -> None:
    commit_files(folder, {"app.py": BROKEN, "test_app.py": TEST, "package.json": "{}\n"})
    Repository.objects.update(
        setup_command="mkdir made; cp app.py made/other.py; echo '{1}' > package.json",
        check_commands=["python -m pytest -q test_app.py made/other.py"],
    )
    repository.refresh_from_db()
    tasks = [run(alice, type="debug", repository=repository) for _ in range(2)]
    for task in tasks:
        assert ended(task) == ("completed", "done", "")
        assert [file["path"] for file in task.result.files] == ["app.py"]
        assert "made" not in task.result.diff
        changed = run_git(folder, "diff", "--name-only", "main", task.result_branch)
        assert changed == "app.py\n"
    assert told(tasks[0])[0].startswith("Setup done in ")
    assert told(tasks[1]) == ["Setup not run"]


def test_two_connections_of_one_repository_share_no_setup(
    alice: User, mallory: User, repository: Repository, folder: Path
) -> None:
    other = connect.connect_repository(owner=mallory, url=str(folder), is_operator=True)
    Repository.objects.update(setup_command="echo made > made.txt", check_commands=["true"])
    for owner, row in ((alice, repository), (mallory, other)):
        row.refresh_from_db()
        task = run(owner, type="debug", repository=row)
        assert told(task)[0].startswith("Setup done in ")
    assert connect.setups_path(repository) != connect.setups_path(other)


def test_given_files_are_placed_in_the_repository(
    alice: User, repository: Repository, folder: Path
) -> None:
    files = [{"path": "app.py", "content": BROKEN}, {"path": "test_app.py", "content": TEST}]
    task = run(alice, type="debug", repository=repository, files=files)
    assert ended(task)[0] == "completed"
    assert {file["path"] for file in task.result.files} == {"app.py", "test_app.py"}
    assert "+    return code == 'JPY'" in task.result.diff


def test_a_workflow_change_waits_for_a_person(
    alice: User, repository: Repository, folder: Path
) -> None:
    files = [{"path": ".github/workflows/ci.yml", "content": "on: push\n"}]
    task = run(alice, type="debug", repository=repository, files=files)
    assert (task.status, task.is_pushed) == ("completed", False)
    push = task.steps.get(kind=Step.Kind.PLATFORM, name="push")
    assert "approval" in push.summary


def test_a_question_changes_nothing(alice: User, repository: Repository, folder: Path) -> None:
    task = run(alice, type="ask", repository=repository, prompt="Where is `one` defined?")
    assert ended(task) == ("completed", "done", "")
    assert "app.py:1" in task.result.content
    assert (task.head_commit, task.result_branch) == ("", "")
