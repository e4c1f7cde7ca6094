"""``manage.py runtask``: the same job from a terminal, on code that nobody here wrote."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from aimodels.tests.model_server import serve
from asynccoder.tests.processes import ROOT, StartProcess, process_environment, wait_for
from tasks.management.commands import runtask
from tasks.models import Priority, Status, Task
from tasks.tests.make import make_model, make_task
from tasks.tests.test_run_survives import sleepers
from tasks.tests.world import PRICE, bash, commit_files, finish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(400)]


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Return a git repository of an installed package's own source."""
    found = importlib.util.find_spec("h11")
    assert found is not None
    assert found.origin is not None
    folder = tmp_path / "h11"
    shutil.copytree(
        Path(found.origin).parent, folder / "h11", ignore=shutil.ignore_patterns("__pycache__")
    )
    commit_files(folder, {"README.md": "# h11\n"})
    return folder


def runtask_on(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "runtask", "--repository", str(folder), *arguments],
        cwd=ROOT,
        env=process_environment() | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_an_analysis_of_a_strangers_code_says_what_it_measured(stranger: Path) -> None:
    done = runtask_on(stranger, "--type", "analysis", "How good is it?")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| Quality |" in done.stdout
    assert "completed done" in done.stdout
    analysis = Task.objects.get().analysis
    assert analysis.quality_score is not None
    assert 0 < analysis.quality_score <= 10


def test_a_question_about_a_strangers_code_is_answered_with_its_lines(stranger: Path) -> None:
    done = runtask_on(stranger, "--type", "ask", "Where is `ConnectionClosed` defined?")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (stranger / "h11" / "_events.py").read_text().splitlines()
    number = next(at for at, line in enumerate(lines, 1) if "class ConnectionClosed" in line)
    assert f"h11/_events.py:{number}" in done.stdout


def test_tasks_of_others_are_left_to_their_workers(stranger: Path, mallory: User) -> None:
    other = make_task(owner=mallory, priority=Priority.URGENT)
    asked = ("--type", "ask", "Where is `ConnectionClosed` defined?")
    done = runtask_on(stranger, *asked, SWEEP_SECONDS="0.02")
    assert done.returncode == 0, done.stdout + done.stderr
    other.refresh_from_db()
    assert (other.status, other.generation) == (Status.PENDING, 0)


@pytest.fixture(params=["openai", "anthropic"])
def scripted(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Serve a model that changes one file; return what a process needs to reach it."""
    kind = request.param
    script = [bash("echo '# seen' >> h11/_version.py"), *finish()]
    names = {"openai": ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
             "anthropic": ("ANTHROPIC_BASE_URL", "CLAUDE_API_KEY")}  # fmt: skip
    with serve(script) as server:
        make_model(
            provider=kind, name="scripted", display_name="Scripted", input_price=PRICE,
            output_price=PRICE, cached_input_price=PRICE, context_window=100_000,
        )  # fmt: skip
        base, key = names[kind]
        yield {base: server.base_url(kind), key: "sk-platform-key"}


def test_a_model_changes_a_strangers_code(stranger: Path, scripted: dict[str, str]) -> None:
    arguments = ("--type", "debug", "--model", "scripted", "--output", str(stranger / "out.patch"))
    done = runtask_on(stranger, *arguments, "Mark the version file.", **scripted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "+# seen" in done.stdout
    assert "+# seen" in (stranger / "out.patch").read_text()
    task = Task.objects.get()
    assert f"Branch {task.result_branch}" in done.stdout
    assert f"{task.charged_microcredits / 1_000_000:.4f} credits" in done.stdout


def test_ctrl_c_cancels_and_leaves_nothing(stranger: Path, start_process: StartProcess) -> None:
    make_model(
        provider="openai", name="scripted", display_name="Scripted", input_price=PRICE,
        output_price=PRICE, cached_input_price=PRICE,
    )  # fmt: skip
    with serve([bash("sleep 611")]) as server:
        process = start_process(
            "manage.py", "runtask", "--repository", str(stranger), "--model", "scripted", "Wait.",
            OPENAI_BASE_URL=server.openai_url, OPENAI_API_KEY="sk-platform-key",
        )  # fmt: skip
        wait_for(sleepers, what="the command runs")
        process.send(signal.SIGINT)
        assert process.popen.wait(60) == 130
    wait_for(lambda: not sleepers(), what="nothing of it is left")
    assert Task.objects.get().status == Status.CANCELLED


def test_a_second_ctrl_c_waits_for_nothing(stranger: Path, start_process: StartProcess) -> None:
    make_model(
        provider="openai", name="scripted", display_name="Scripted", input_price=PRICE,
        output_price=PRICE, cached_input_price=PRICE,
    )  # fmt: skip
    with serve([bash("sleep 611")]) as server:
        process = start_process(
            "manage.py", "runtask", "--repository", str(stranger), "--model", "scripted", "Wait.",
            OPENAI_BASE_URL=server.openai_url, OPENAI_API_KEY="sk-platform-key",
            CANCEL_POLL_SECONDS="600",
        )  # fmt: skip
        wait_for(sleepers, what="the command runs")
        # With so seldom a look, the first is not heard by the worker.
        process.send(signal.SIGINT)
        wait_for(lambda: "Ctrl-C again" in process.output(), what="it says what it waits for")
        process.send(signal.SIGINT)
        assert process.popen.wait(60) == 130
    wait_for(lambda: not sleepers(), what="nothing of it is left")
    assert Task.objects.get().status == Status.CANCELLED


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--repository", "/nonexistent", "x"), "no git repository"),
        (("--repository", "https://127.0.0.1/x.git", "x"), "address"),
        (("--repository", "file:///etc", "x"), ""),
        (("--repository", ".", "--model", "no-such-model", "x"), "no model"),
        (("--repository", ".", "--branch", "--evil", "x"), ""),
        (("--repository", ".", "   "), "Say what should be done"),
        (("--repository", ".", "--user", "nobody", "x"), "no user"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    commit_files(tmp_path / "here", {"a.py": "x = 1\n"})
    arguments = tuple(str(tmp_path / "here") if word == "." else word for word in arguments)
    done = subprocess.run(
        [sys.executable, "manage.py", "runtask", *arguments],
        cwd=ROOT, env=process_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert says in done.stderr
    assert not Task.objects.exists()


def test_a_terminal_is_not_steered_by_what_a_task_prints() -> None:
    assert runtask.printable("a\x1b[2Jb\u202ec") == "a·[2Jb·c"


def test_the_exit_status_tells_the_outcome(alice: Any) -> None:
    expected = {("completed", "done"): 0, ("completed", "blocked"): 3, ("failed", ""): 1,
                ("cancelled", ""): 130}  # fmt: skip
    for (status, outcome), code in expected.items():
        assert runtask.exit_status(make_task(owner=alice, status=status, outcome=outcome)) == code
    unproven = make_task(owner=alice, status="completed", outcome="done")
    unproven.checks.create(phase="after", command="pytest", verdict="failed")
    assert runtask.exit_status(unproven) == 4


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("cancelled", 130)])
def test_a_run_that_came_to_no_end_is_not_called_unproven(
    alice: User, status: str, code: int
) -> None:
    task = make_task(owner=alice, status=status)
    task.checks.create(phase="after", command="pytest", verdict="failed")
    assert runtask.exit_status(task) == code
