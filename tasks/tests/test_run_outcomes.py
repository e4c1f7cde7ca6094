"""How a run ends: done, parked, refused, out of money; each with what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from accounts.models import User
from aimodels import keys
from aimodels.models import AIModel, KeyUsage, ModelUsage
from asynccoder.tests.processes import Process, wait_for
from billing import ledger
from tasks import lease, runner, workspace
from tasks.models import Check, Status, Step, Task
from tasks.tests.world import World, bash, build_world, commit_files, finish, run_git
from tasks.workspace import task_folder

pytestmark = pytest.mark.django_db(transaction=True)
CHANGE = bash("echo done >> notes.txt")
TESTED = {
    "app.py": "def double(number):\n    return number + 2\n",
    "test_app.py": ("from app import double\n\n\ndef test_double():\n    assert double(4) == 8\n"),
    "pyproject.toml": "[tool.pytest.ini_options]\n",
}
FIX = bash("sed -i 's/number + 2/number * 2/' app.py")


@pytest.fixture(autouse=True)
def _keys(settings: Any) -> None:
    settings.OPENAI_API_KEY = settings.CLAUDE_API_KEY = settings.GEMINI_API_KEY = "sk-platform-key"


@pytest.fixture
def build(
    alice: User, worker_process: Callable[..., Process], tmp_path: Path
) -> Iterator[Callable[..., World]]:
    open_worlds: list[Any] = []

    def make(script: Any, **values: Any) -> World:
        world = build_world(alice, script, worker_process, tmp_path / "repository", **values)
        open_worlds.append(world)
        return world.__enter__()

    yield make
    for world in open_worlds:
        world.__exit__(None, None, None)


def run(world: World, **values: Any) -> Task:
    task = world.create(**values)
    world.worker()
    return world.finished(task)


def run_here(world: World, monkeypatch: pytest.MonkeyPatch) -> Task:
    """Run a new task in this very process."""
    task = world.create()
    claimed = lease.claim(worker="here")
    assert claimed is not None
    for name, value in world.environment.items():
        monkeypatch.setattr(settings, name, value)
    runner.run(claimed)
    task.refresh_from_db()
    return task


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_a_fix_is_proven_by_the_checks_and_pushed(build: Callable[..., World], kind: str) -> None:
    world = build([FIX, *finish()], kind=kind, files=TESTED)
    task = run(world)
    assert (task.status, task.outcome, task.error_message) == ("completed", "done", "")
    checks = [(check.phase, check.verdict) for check in task.checks.all()]
    assert checks == [("before", "failed"), ("after", "passed")]
    assert task.checks.get(phase="after").commit == task.head_commit
    assert "-    return number + 2\n+    return number * 2\n" in task.result.diff
    assert task.result.files == [{"path": "app.py", "status": "modified", "added": 1, "removed": 1}]
    assert task.is_pushed
    folder = Path(world.repository.url)
    log = run_git(folder, "log", "-1", "--format=%an|%cn|%s", task.result_branch).strip()
    assert log == "alice|Async Coder|Make it so."
    assert run_git(folder, "show", f"{task.result_branch}:app.py") == (
        "def double(number):\n    return number * 2\n"
    )
    assert task.charged_microcredits > 0


def test_a_claim_that_the_checks_deny_is_shown_as_failed(build: Callable[..., World]) -> None:
    broken = bash("echo 'assert double(1) == 3.5' >> app.py")
    script = [broken, *finish(summary="Everything passes, believe me."), *([CHANGE] * 4)]
    task = run(build(script, files=TESTED))
    assert task.checks.filter(phase="after").latest("round").verdict == Check.Verdict.FAILED


def test_nothing_changed_is_said_so(build: Callable[..., World]) -> None:
    task = run(build([bash("ls"), *finish(status="no_change_needed")]))
    assert (task.status, task.outcome, task.result.diff) == ("completed", "no_change_needed", "")
    assert task.result_branch == ""


def test_a_busy_provider_parks_the_run_and_it_goes_on(build: Callable[..., World]) -> None:
    busy = {**CHANGE, "faults": [{"status": 429, "retry_after": 1, "message": "slow down"}]}
    world = build([busy, *finish()])
    task = run(world)
    assert task.status == Status.COMPLETED
    kinds = list(task.log.values_list("kind", flat=True))
    assert kinds.index("task.parked") < kinds.index("task.resumed")
    assert task.lost_attempts == 0


@pytest.mark.parametrize("seconds", [60, 61])
def test_a_provider_that_does_not_say_how_long_parks_the_run_for_the_usual_time(
    build: Callable[..., World], seconds: int
) -> None:
    world = build([{**CHANGE, "faults": [{"status": 529, "message": "overloaded"}]}, *finish()])
    task = world.create()
    world.worker(PARK_SECONDS=str(seconds))
    parked = task.log.filter(kind="task.parked")
    wait_for(parked.exists, what="the run is parked")
    assert parked.get().data["seconds"] == seconds


def test_a_refused_key_fails_the_task_and_costs_nothing(build: Callable[..., World]) -> None:
    refused = {**CHANGE, "faults": [{"status": 401, "message": "bad key"}] * 3}
    task = run(build([refused]))
    assert (task.status, task.error_code) == ("failed", "model_key_refused")
    assert "sk-platform" not in task.error_message
    assert (task.charged_microcredits, ledger.balance(task.owner_id).held) == (0, 0)


def test_the_cap_ends_the_run_before_it_is_passed_and_keeps_the_work(
    build: Callable[..., World],
) -> None:
    world = build(lambda body: CHANGE)
    task = run(world, cap_microcredits=2_000_000)
    assert (task.status, task.error_code) == ("failed", "cap_reached")
    assert 0 < task.charged_microcredits <= 2_000_000
    assert task.result.data == {"is_partial": True}
    assert "+done" in task.result.diff
    assert ledger.balance(task.owner_id).held == 0


def test_three_malformed_replies_end_the_run_and_are_charged(build: Callable[..., World]) -> None:
    task = run(build(lambda body: {"text": "I say nothing useful."}))
    assert task.status == Status.FAILED
    calls = task.steps.filter(kind=Step.Kind.MODEL_CALL)
    assert calls.count() == 3
    assert task.charged_microcredits == sum(step.cost_microcredits for step in calls) > 0


def test_with_an_own_key_the_provider_is_paid_not_the_platform(
    build: Callable[..., World], alice: User
) -> None:
    world = build([CHANGE, *finish()])
    keys.add(user=alice, provider="openai", plain="sk-alice-own-key-000000")
    world.server.key = "sk-alice-own-key-000000"
    task = run(world)
    assert (task.status, task.charged_microcredits) == ("completed", 0)
    assert task.input_tokens > 0
    logged = KeyUsage.objects.filter(user=alice)
    assert sum(entry.input_tokens for entry in logged) == task.input_tokens
    assert ModelUsage.objects.get().calls == len(logged) == task.steps.filter(name="model").count()


def test_a_branch_that_went_away_fails_the_task(build: Callable[..., World]) -> None:
    world = build([CHANGE, *finish()])
    folder = Path(world.repository.url)
    commit_files(folder, {"more.py": "x = 1\n"}, branch="gone")
    run_git(folder, "checkout", "-q", "main")
    task = world.create(branch="gone")
    run_git(folder, "branch", "-D", "gone")
    world.worker()
    world.finished(task)
    assert (task.status, task.error_code) == ("failed", "branch_missing")
    assert task.charged_microcredits == 0


def test_a_failing_setup_says_which_command(build: Callable[..., World]) -> None:
    world = build([CHANGE, *finish()])
    world.repository.setup_command = "echo no such thing; exit 7"
    world.repository.save()
    task = run(world)
    assert (task.status, task.error_code) == ("failed", "setup_failed")
    assert "7" in task.error_message
    assert "no such thing" in task.error_message


def test_a_question_needs_no_setup_for_its_workspace_is_read_only(
    build: Callable[..., World],
) -> None:
    world = build(
        finish(answer="It prints hello (app.py:1).", citations=[{"path": "app.py", "line": 1}])
    )
    world.repository.setup_command = "touch made.txt"
    world.repository.save()
    task = run(world, type="ask", prompt="What does it print?")
    assert (task.error_code, task.error_message) == ("", "")
    task = world.finished(world.create())
    assert "Setup done" in " ".join(task.log.values_list("message", flat=True))


def test_a_repository_that_went_away_fails_the_task(build: Callable[..., World]) -> None:
    world = build([CHANGE, *finish()])
    task = world.create()
    Path(world.repository.url).rename(Path(world.repository.url).with_name("elsewhere"))
    world.worker()
    world.finished(task)
    assert task.status == Status.FAILED
    assert str(Path(world.repository.url).parent) not in task.error_message


def test_a_sandbox_that_runs_out_of_memory_is_replaced(build: Callable[..., World]) -> None:
    hog = bash(
        "echo before >> notes.txt; python3 -c 'x = bytearray(900_000_000); input()' </dev/zero"
    )
    world = build([CHANGE, hog, CHANGE, *finish()])
    task = world.create()
    world.worker(SANDBOX_MEMORY_BYTES=str(200 * 1024**2))
    world.finished(task)
    assert task.status == Status.COMPLETED
    assert task.result.diff.count("+done") == 2


def test_a_new_project_is_built_from_nothing(build: Callable[..., World]) -> None:
    world = build([bash("mkdir src; echo 'x = 1' > src/a.py"), *finish()])
    task = run(world, type="build", repository=None)
    assert (task.status, task.error_message) == ("completed", "")
    assert [file["path"] for file in task.result.files] == ["src/a.py"]
    assert (task.is_pushed, bool(task.result_branch)) == (False, True)


def test_given_files_are_where_the_work_starts(build: Callable[..., World]) -> None:
    world = build([bash("cat given.txt >> out.txt"), *finish()])
    files = [{"path": "given.txt", "content": "from the request\n"}]
    task = run(world, type="implement", repository=None, files=files)
    assert "+from the request" in task.result.diff
    model = AIModel.objects.get(name="scripted")
    assert task.model == model


def test_the_log_is_one_story_without_a_gap(build: Callable[..., World]) -> None:
    world = build([CHANGE, *finish()])
    task = run(world)
    rows = list(task.log.order_by("sequence"))
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0].kind == "task.created"
    assert rows[-1].kind == "task.completed"
    wait_for(lambda: not list(task_folder(task.pk).glob("layers-*")), what="no scratch is left")


def test_without_overlays_a_run_works_on_a_copy(
    build: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "overlays_work", lambda: False)
    world = build([FIX, *finish()], files=TESTED)
    task = run_here(world, monkeypatch)
    assert (task.status, task.error_message) == ("completed", "")
    assert task.checks.get(phase="after").verdict == Check.Verdict.PASSED
    assert "number + 2" in (Path(world.repository.url) / "app.py").read_text()


@pytest.mark.services
def test_what_no_text_can_hold_does_not_end_a_run(build: Callable[..., World]) -> None:
    odd = bash("echo 'half a pair \ud800 and \u202e' >> notes.txt; printf 'a\\000b'")
    world = build([odd, *finish()])
    task = world.create()
    worker = world.worker()
    world.finished(task)
    assert ended(task) == ("completed", "done", ""), worker.output()
    assert "half a pair" in task.result.diff


def ended(task: Task) -> tuple[str, str, str]:
    return (task.status, task.outcome, task.error_message)
