"""The limits of a run's workspace, each a setting, on both sides of its edge, and what needs no git."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from repositories import connect, git
from repositories.models import Repository
from repositories.tests.make import make_upstream
from tasks import lease, lifecycle, runner
from tasks.errors import CheckpointRefused, SandboxBroke
from tasks.kept_sandbox import KeptSandbox
from tasks.lease import Claim
from tasks.lifecycle import TaskRequest
from tasks.models import Task
from tasks.sandbox.base import Command, CommandResult, SandboxLost
from tasks.tests.local_sandbox import LocalSandbox
from tasks.tests.make import make_model
from tasks.tests.world import commit_files
from tasks.workspace import Origin, RunWorkspace

NOISE = Command(["bash", "-c", "head -c 300000 /dev/urandom > noise"])


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[RunWorkspace]:
    mirror = tmp_path / "mirror.git"
    upstream = make_upstream(tmp_path / "upstream", {"a.txt": "a\n"})
    git.ensure_mirror(mirror, git.Remote(str(upstream)), max_bytes=10**8)
    origin = Origin(mirror, git.resolve_commit(mirror, "main"), tmp_path / "bases")
    made = RunWorkspace(Claim(uuid.uuid4(), 1), origin, is_read_only=False)
    made.prepare()
    with made.sandbox:
        yield made
    made.close()


def packed_bytes(workspace: RunWorkspace) -> int:
    """Return how large the pack of the present changes is."""
    objects = [str(workspace.origin.mirror / "objects"), str(workspace.store / "objects")]
    script = ["bash", "-c", git.CHECKPOINT_SCRIPT, "checkpoint", workspace.head, *objects]
    result = workspace.sandbox.run(Command(script, keep=10**7, errors_apart=True))
    return len(result.output.partition(b"\n")[2])


def test_what_a_command_may_print_does_not_limit_a_checkpoint(
    workspace: RunWorkspace, settings: Any
) -> None:
    settings.SANDBOX_OUTPUT_BYTES = 1000
    # The next sandbox is made with it.
    workspace.sandbox.__exit__(None, None, None)
    workspace.sandbox.run(NOISE)
    assert workspace.checkpoint(workspace.head) is not None


def test_a_byte_less_than_a_pack_needs_refuses_it(workspace: RunWorkspace, settings: Any) -> None:
    workspace.sandbox.run(NOISE)
    size = packed_bytes(workspace)
    settings.CHECKPOINT_BYTES = size - 1
    with pytest.raises(CheckpointRefused, match="larger"):
        workspace.checkpoint(workspace.head)
    settings.CHECKPOINT_BYTES = size
    assert workspace.checkpoint(workspace.head) is not None


def test_a_pack_far_over_the_limit_is_not_even_taken_in(
    workspace: RunWorkspace, settings: Any
) -> None:
    settings.CHECKPOINT_BYTES = 1000
    workspace.sandbox.run(Command(["bash", "-c", "head -c 3000000 /dev/urandom > noise"]))
    with pytest.raises(CheckpointRefused, match="larger"):
        workspace.checkpoint(workspace.head)


@pytest.mark.parametrize(
    ("name", "files"), [("CHECKPOINT_FILES", 3), ("CHECKPOINT_OBJECTS", 3 + 2)]
)
def test_as_many_changes_as_allowed_are_kept_and_one_more_is_not(
    workspace: RunWorkspace, settings: Any, name: str, files: int
) -> None:
    workspace.sandbox.run(Command(["bash", "-c", "for n in 1 2 3; do echo $n > $n; done"]))
    setattr(settings, name, files - 1)
    with pytest.raises(CheckpointRefused, match="more files"):
        workspace.checkpoint(workspace.head)
    setattr(settings, name, files)
    assert workspace.checkpoint(workspace.head) is not None


def test_a_checkpoint_that_takes_too_long_is_refused(
    workspace: RunWorkspace, settings: Any
) -> None:
    workspace.sandbox.run(NOISE)
    settings.CHECKPOINT_SECONDS = 0.001
    with pytest.raises(CheckpointRefused, match=r"within 0\.001 s"):
        workspace.checkpoint(workspace.head)
    settings.CHECKPOINT_SECONDS = 120
    assert workspace.checkpoint(workspace.head) is not None


def test_a_pack_that_needs_more_memory_than_allowed_is_refused(
    workspace: RunWorkspace, settings: Any
) -> None:
    settings.CHECKPOINT_MEMORY_BYTES = 32 * 1024**2
    workspace.sandbox.run(NOISE)
    small = workspace.checkpoint(workspace.head)
    assert small is not None
    # Git takes a file of up to 32 MiB into its memory as a whole.
    workspace.sandbox.run(Command(["bash", "-c", "head -c 32000000 /dev/zero > zeroes"]))
    with pytest.raises(CheckpointRefused, match="no checkpoint that can be trusted"):
        workspace.checkpoint(workspace.head)
    settings.CHECKPOINT_MEMORY_BYTES = 256 * 1024**2
    assert workspace.checkpoint(workspace.head) is not None


class Mortal(LocalSandbox):
    """A sandbox that dies of its first command."""

    def run(
        self, command: Command, *, on_output: Callable[[bytes], None] | None = None
    ) -> CommandResult:
        raise SandboxLost("The sandbox ran out of memory.")


@pytest.mark.parametrize("allowed", [0, 2])
def test_a_sandbox_that_dies_is_replaced_as_often_as_allowed(
    tmp_path: Path, settings: Any, allowed: int
) -> None:
    settings.SANDBOX_LOSSES = allowed
    kept = KeptSandbox(lambda: Mortal(tmp_path), lambda: None)
    for _ in range(allowed):
        assert kept.run(Command(["true"])).exit_code == 137
    with pytest.raises(SandboxBroke):
        kept.run(Command(["true"]))


# --- the repository's own commands ---------------------------------------------------------------


def run(owner: User, repository: Repository) -> Task:
    request = TaskRequest(type="debug", prompt="Look.", model=make_model(), repository=repository)
    task, _ = lifecycle.create_task(owner=owner, request=request, ring=False)
    claimed = lease.claim(worker="here", only=task.pk)
    assert claimed is not None
    runner.run(claimed)
    task.refresh_from_db()
    return task


@pytest.fixture
def repository(alice: User, tmp_path: Path) -> Repository:
    commit_files(tmp_path / "project", {"app.py": "def one():\n    return 1\n"})
    return connect.connect_repository(owner=alice, url=str(tmp_path / "project"), is_operator=True)


@pytest.mark.django_db(transaction=True)
def test_a_setup_has_its_time_and_no_more(
    alice: User, repository: Repository, settings: Any
) -> None:
    Repository.objects.update(setup_command="sleep 0.3", check_commands=["true"])
    repository.refresh_from_db()
    settings.SETUP_SECONDS = 0.1
    task = run(alice, repository)
    assert (task.status, task.error_code) == ("failed", "setup_failed")
    assert task.error_message == "Setup took longer than 0.1 s: sleep 0.3"
    settings.SETUP_SECONDS = 60
    assert run(alice, repository).status == "completed"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("seconds", "verdict"), [(0.1, "failed"), (60, "passed")])
def test_a_check_has_its_time_and_no_more(
    alice: User, repository: Repository, settings: Any, seconds: float, verdict: str
) -> None:
    Repository.objects.update(check_commands=["sleep 0.3"])
    repository.refresh_from_db()
    settings.CHECK_SECONDS = seconds
    check = run(alice, repository).checks.get(phase="before")
    assert check.verdict == verdict


@pytest.mark.parametrize(
    ("command", "is_asked"), [("cat a.txt", False), ("echo b >> a.txt", True), ("rm a.txt", True)]
)
def test_git_is_asked_only_where_something_was_written(
    workspace: RunWorkspace,
    command: str,
    is_asked: bool,
) -> None:
    workspace.sandbox.run(Command(["bash", "-c", command]))
    made = workspace.checkpoint(workspace.head)
    kept = workspace.sandbox.run(Command(["ls", "-a", "/tmp"]))
    assert (b".asynccoder-checkpoint" in kept.output) is is_asked is (made is not None)


def test_a_second_checkpoint_of_the_same_tree_is_none(workspace: RunWorkspace) -> None:
    workspace.sandbox.run(Command(["bash", "-c", "echo b >> a.txt"]))
    made = workspace.checkpoint(workspace.head)
    assert made
    assert workspace.checkpoint(made.commit) is None
    workspace.sandbox.run(Command(["bash", "-c", "echo c >> a.txt"]))
    assert workspace.checkpoint(made.commit)
