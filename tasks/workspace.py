"""The folders, the git store and the kept sandbox of one run.

The host never runs git on the tree that the sandbox can write: ``add`` and ``commit`` run inside,
only objects come out, as a pack that ``repositories.git`` checks (agent-design, section 5).
"""

from __future__ import annotations

import functools
import logging
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from django.conf import settings

from asynccoder.lib import storable
from repositories import git
from repositories.errors import as_failed_run
from tasks.egress import Egress
from tasks.errors import CheckpointRefused, SandboxBroke, SandboxMissing, WorkspaceLost
from tasks.lease import Claim
from tasks.records import Checkpoint
from tasks.sandbox import selftest
from tasks.sandbox.base import (
    Command,
    CommandResult,
    Limits,
    Sandbox,
    SandboxLost,
    SandboxUnavailable,
    Workspace,
)
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import give_tree, prepare_owned, remove_tree, sandbox_ids
from tasks.sandbox.proxy import Verdict
from tasks.sandbox.toolchain import Toolchain

logger = logging.getLogger(__name__)

QUIET_TOOLS = {
    # Tools that a check or the agent runs must not leave their caches in the workspace.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_ADDOPTS": "-p no:cacheprovider",
    "RUFF_NO_CACHE": "true",
    "MYPY_CACHE_DIR": "/dev/null",
    "COVERAGE_FILE": "/tmp/.coverage",  # noqa: S108 - inside the sandbox, which has its own /tmp
    "CI": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "TERM": "dumb",
}
CHECKPOINT_SECONDS = 120.0
CHECKPOINT_BYTES = 300 * 1024**2
MOST_LOSSES = 3
T = TypeVar("T")


def task_folder(task_id: uuid.UUID) -> Path:
    return Path(settings.VAR_DIR) / "tasks" / str(task_id)


def store_path(task_id: uuid.UUID) -> Path:
    """Return the trusted bare repository that keeps a task's checkpoints."""
    return task_folder(task_id) / "store.git"


@functools.cache
def overlays_work() -> bool:
    """Tell whether workspaces can be overlays here; tried once in a process and its children.

    They cannot with an old bubblewrap, nor on a file system that is an overlay itself. Raises
    SandboxUnavailable.
    """
    folder = Path(settings.VAR_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    works = selftest.can_overlay(folder, Toolchain.of_platform())
    if not works:
        logger.warning("no overlays here: each task gets a copy of its repository's tree")
    return works


def drop_layers(task_id: uuid.UUID, *, up_to: int) -> None:
    """Remove the scratch folders of a run and its lost forerunners; checkpoints are elsewhere.

    Those of a later generation stay: another worker may have taken over.
    """
    for layers in task_folder(task_id).glob("layers-*"):
        if int(layers.name.split("-")[1]) <= up_to:
            remove_tree(layers)


def limits_from_settings() -> Limits:
    return Limits(
        processes=settings.SANDBOX_PROCESSES,
        memory=settings.SANDBOX_MEMORY_BYTES,
        file=settings.SANDBOX_FILE_BYTES,
        disk=settings.SANDBOX_DISK_BYTES,
        output=settings.SANDBOX_OUTPUT_BYTES,
        tmp=settings.SANDBOX_TMP_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run starts from: a bare repository and a commit in it."""

    mirror: Path
    commit: str
    bases: Path


class KeptSandbox:
    """One sandbox for a whole run; when it dies, another takes its place at the last checkpoint.

    Implements ``tasks.sandbox.base.Sandbox``.
    """

    def __init__(
        self,
        make: Callable[[], Sandbox],
        reset: Callable[[Sandbox], None],
        after: Callable[[], None],
    ) -> None:
        self._make = make
        self._reset = reset
        self._after = after
        """Called after each command."""
        self._losses = 0
        self._inner: Sandbox | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *exc: object) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.__exit__(*exc)

    def _open(self) -> Sandbox:
        try:
            self._inner = self._make().__enter__()
        except SandboxUnavailable as error:
            raise SandboxMissing(str(error)) from error
        self._reset(self._inner)
        return self._inner

    @property
    def _open_one(self) -> Sandbox:
        return self._inner or self._open()

    def run(
        self, command: Command, *, on_output: Callable[[bytes], None] | None = None
    ) -> CommandResult:
        """Run a command; the death of the sandbox becomes a failed command that says so."""
        command = replace(command, env={**QUIET_TOOLS, **command.env})
        try:
            result = self._open_one.run(command, on_output=on_output)
        except SandboxLost as error:
            self._replace(error)
            notice = f"{error} The workspace is back where it was before this command.\n"
            result = CommandResult(137, notice.encode(), stopped="memory", total_bytes=len(notice))
        self._after()
        return result

    def read(self, path: str, *, limit: int = 10 * 1024**2) -> bytes:
        return self._retry(lambda sandbox: sandbox.read(path, limit=limit))

    def write(self, path: str, content: bytes) -> None:
        self._retry(lambda sandbox: sandbox.write(path, content))

    def stop(self) -> None:
        if self._inner is not None:
            self._inner.stop()

    def _retry(self, use: Callable[[Sandbox], T]) -> T:
        try:
            return use(self._open_one)
        except SandboxLost as error:
            self._replace(error)
            return use(self._open_one)

    def _replace(self, error: SandboxLost) -> None:
        self.__exit__(None, None, None)
        self._losses += 1
        logger.warning("sandbox lost (%s of %s): %s", self._losses, MOST_LOSSES, error)
        if self._losses > MOST_LOSSES:
            raise SandboxBroke(str(error)) from error


class RunWorkspace:
    """The workspace of one attempt of one run."""

    def __init__(
        self, claimed: Claim, origin: Origin, *, is_read_only: bool, hosts: Sequence[str] = ()
    ) -> None:
        """``hosts`` is the repository's network list. Raises NetworkListBad."""
        task_id = self.task_id = claimed.task_id
        self.generation = claimed.generation
        self.folder = task_folder(task_id)
        self.store = store_path(task_id)
        self.origin = origin
        self.is_read_only = is_read_only
        self.head = origin.commit
        """The newest checkpoint; a new sandbox is brought to it."""
        self.egress = Egress(hosts)
        self.report: Callable[[Verdict], None] = lambda _verdict: None
        """Told of each host that a command was let through to, or refused."""
        self.on_open: Callable[[Sandbox], None] = lambda _sandbox: None
        """Called with every new sandbox once its tree is in place: what git ignores is set up."""
        self._proxy: Path | None = None
        self.sandbox = KeptSandbox(self._make_sandbox, self._restore, self._tell)

    def prepare(self) -> None:
        """Make the store (kept over attempts) and forget the scratch folders of lost attempts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.store.exists():
            git.create_store(self.store, self.origin.mirror)
        drop_layers(self.task_id, up_to=self.generation)
        self._proxy = self.egress.open(self.folder / f"layers-{self.generation}-network")

    def close(self) -> None:
        self.sandbox.__exit__(None, None, None)
        self.egress.close()
        drop_layers(self.task_id, up_to=self.generation)

    def _tell(self) -> None:
        for verdict in self.egress.news():
            self.report(verdict)

    def _make_sandbox(self) -> Sandbox:
        with as_failed_run():
            base = git.build_base(
                self.origin.mirror, self.origin.commit, self.origin.bases, owner=sandbox_ids()
            )
        workspace = replace(
            self._layered(base),
            read_only_paths=git.borrowed_from(self.store),
            proxy=self._proxy,
        )
        toolchain = Toolchain.of_platform(private=[Path(settings.VAR_DIR)])
        return Bubblewrap(workspace, limits_from_settings(), toolchain=toolchain)

    def _layered(self, base: Path) -> Workspace:
        """Return the base alone, under an overlay, or, where there are none, a copy of it."""
        if self.is_read_only:
            return Workspace(base=base, read_only=True)
        layers = prepare_owned(self.folder / f"layers-{self.generation}-{uuid.uuid4().hex[:8]}")
        if overlays_work():
            upper, work = (prepare_owned(layers / name) for name in ("upper", "work"))
            return Workspace(base=base, upper=upper, work=work)
        copy = layers / "copy"
        # The base's .git borrows the mirror's objects, so a copy holds the tree alone.
        shutil.copytree(base, copy, symlinks=True)
        give_tree(copy)
        return Workspace(base=copy)

    @property
    def _objects(self) -> list[str]:
        return [str(self.origin.mirror / "objects"), str(self.store / "objects")]

    def _restore(self, sandbox: Sandbox) -> None:
        """Bring a fresh overlay of the base commit to the newest checkpoint, and set it up."""
        if self.head != self.origin.commit:
            self._check_out_head(sandbox)
        self.on_open(sandbox)

    def _check_out_head(self, sandbox: Sandbox) -> None:
        script = ["bash", "-c", git.RESTORE_SCRIPT, "restore", self.head, *self._objects]
        result = sandbox.run(Command(script, seconds=CHECKPOINT_SECONDS))
        if result.exit_code != 0:
            said = storable.text(result.text[-500:])
            raise WorkspaceLost(f"The last checkpoint could not be restored: {said}")

    def reset(self, commit: str) -> None:
        """Bring the tree back to a checkpoint, in a new sandbox."""
        self.head = commit or self.origin.commit
        self.sandbox.__exit__(None, None, None)

    def checkpoint(self, previous: str) -> Checkpoint | None:
        """Commit the tree inside, take its objects out, keep them under a hidden ref.

        Returns None when nothing has changed since ``previous``. Raises CheckpointRefused.
        """
        script = ["bash", "-c", git.CHECKPOINT_SCRIPT, "checkpoint", previous, *self._objects]
        command = Command(
            script, seconds=CHECKPOINT_SECONDS, keep=CHECKPOINT_BYTES, errors_apart=True
        )
        result = self.sandbox.run(command)
        if result.exit_code != 0 or result.is_cut:
            reason = result.errors.decode("utf-8", "replace")[-500:] or result.text[-200:]
            said = storable.text(reason)
            raise CheckpointRefused(f"The workspace could not be checkpointed: {said}")
        try:
            made = git.accept_checkpoint(
                self.store, result.output, previous=previous, limits=git.PackLimits()
            )
        except git.CheckpointBad as error:
            raise CheckpointRefused(str(error)) from error
        if not made.is_new:
            return None
        git.keep_ref(self.store, "checkpoint", made.commit)
        self.head = made.commit
        return Checkpoint(made.commit, made.tree)
