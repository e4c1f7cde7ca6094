"""The folders, the git store and the kept sandbox of one run.

The host never runs git on the tree that the sandbox can write: ``add`` and ``commit`` run inside,
only objects come out, as a pack that ``repositories.git`` checks (agent-design, section 5).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from django.conf import settings
from django.db.models import Q

from asynccoder.lib import storable
from repositories import git
from repositories.errors import as_failed_run, failure
from tasks import layers, packs, prepared
from tasks.egress import Egress
from tasks.errors import CheckpointRefused, SetupFailed, WorkspaceLost
from tasks.kept_sandbox import QUIET_TOOLS, KeptSandbox
from tasks.layers import Kept
from tasks.lease import Claim
from tasks.models import Status, Task
from tasks.records import Checkpoint
from tasks.sandbox import selftest
from tasks.sandbox.base import Command, CommandResult, Limits, Sandbox, Workspace
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import give_tree, prepare_owned, remove_tree, sandbox_ids
from tasks.sandbox.proxy import Verdict
from tasks.sandbox.toolchain import Toolchain
from tasks.sandbox.traces import traces_of

logger = logging.getLogger(__name__)

BESIDE_PACK = 1024**2
"""Bytes of a checkpoint's output that are not its pack: a header, and what git complains of."""
HALF_MADE = (".hosted-*", ".*.git-*", "store.git/incoming-*", "store.git/patch-*")
"""Where ``repositories.git`` makes what it renames when it is whole."""


def has_room() -> bool:
    """Tell whether the disk of the runs' folders has DISK_RESERVE_BYTES free."""
    try:
        found = os.statvfs(settings.VAR_DIR)
    except OSError:
        return True
    return bool(found.f_bavail * found.f_frsize >= settings.DISK_RESERVE_BYTES)


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
    for scratch in task_folder(task_id).glob("layers-*"):
        if int(scratch.name.split("-")[1]) <= up_to:
            remove_tree(scratch)


def drop_half_made(task_id: uuid.UUID) -> None:
    """Remove what killed attempts were making in git; only the holder of the lease may do so."""
    for path in _half_made(task_id):
        remove_tree(path)


def _half_made(task_id: uuid.UUID) -> list[Path]:
    folder = task_folder(task_id)
    return [path for pattern in HALF_MADE for path in folder.glob(pattern)]


def drop_abandoned() -> int:
    """Remove what dead workers left of tasks that nobody holds; return how many folders.

    The next attempt clears up after the last one. This is for a task that has none here any more:
    given up, cancelled meanwhile, or gone on on another machine.
    """
    dropped = 0
    unheld = Task.objects.filter(lease_owner="", generation__gt=0).exclude(status=Status.PENDING)
    disturbed = unheld.filter(Q(lost_attempts__gt=0) | Q(generation__gt=1))
    for task_id in list(disturbed.values_list("pk", flat=True)):
        found = [*task_folder(task_id).glob("layers-*"), *_half_made(task_id)]
        # Listed before this look: an attempt that begins now is making others.
        if found and unheld.filter(pk=task_id).exists():
            for path in found:
                remove_tree(path)
            dropped += len(found)
    return dropped


def limits_from_settings() -> Limits:
    return Limits(
        processes=settings.SANDBOX_PROCESSES,
        memory=settings.SANDBOX_MEMORY_BYTES,
        file=settings.SANDBOX_FILE_BYTES,
        disk=settings.SANDBOX_DISK_BYTES,
        output=settings.SANDBOX_OUTPUT_BYTES,
        tmp=settings.SANDBOX_TMP_BYTES,
    )


def pack_limits_from_settings() -> git.PackLimits:
    return git.PackLimits(
        pack=settings.CHECKPOINT_BYTES,
        objects=settings.CHECKPOINT_OBJECTS,
        object=settings.CHECKPOINT_OBJECT_BYTES,
        total=settings.CHECKPOINT_UNPACKED_BYTES,
        files=settings.CHECKPOINT_FILES,
        depth=settings.CHECKPOINT_DEPTH,
        cpu=settings.CHECKPOINT_CPU_SECONDS,
        seconds=settings.CHECKPOINT_SECONDS,
        memory=settings.CHECKPOINT_MEMORY_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run starts from: a bare repository and a commit in it."""

    mirror: Path
    commit: str
    bases: Path


@dataclass(frozen=True, slots=True)
class Setup:
    """How a run's repository is set up, where what that makes is kept, and who hears of it."""

    command: str
    folder: Path
    report: Callable[[str], None]


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
        self._hosts = tuple(hosts)
        self.report: Callable[[Verdict], None] = lambda _verdict: None
        """Told of each host that a command was let through to, or refused."""
        self.setup: Setup | None = None
        self._made = b""
        """What the setup made that git does not ignore; no checkpoint holds it."""
        self._proxy: Path | None = None
        self._written: Path | None = None
        """Where on this machine what a sandbox writes is kept."""
        self._settled = ("", b"")
        """A commit, and the traces of the tree that is known to be the commit's."""
        self._tree = ("", "")
        """The newest checkpoint that was made here, and its tree."""
        self.sandbox = KeptSandbox(self._open, self._tell)

    def prepare(self) -> None:
        """Make the store (kept over attempts) and forget the scratch folders of lost attempts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.store.exists():
            git.create_store(self.store, self.origin.mirror)
        drop_layers(self.task_id, up_to=self.generation)
        drop_half_made(self.task_id)
        self._proxy = self.egress.open(self.folder / f"layers-{self.generation}-network")

    def close(self) -> None:
        self.sandbox.__exit__(None, None, None)
        self.egress.close()
        drop_layers(self.task_id, up_to=self.generation)
        if self.setup is not None:
            layers.prune(self.setup.folder, keep_bytes=settings.SETUPS_KEEP_BYTES)

    def _tell(self) -> None:
        for verdict in self.egress.news():
            self.report(verdict)

    # --- opening a sandbox ---------------------------------------------------------------------

    def _open(self) -> Sandbox:
        """Return a running sandbox: the base, what the setup made, and the newest checkpoint.

        What another commit's setup made is not used where it would change tracked files.
        """
        with as_failed_run():
            base = git.build_base(
                self.origin.mirror, self.origin.commit, self.origin.bases, owner=sandbox_ids()
            )
        for kept in self._results(base):
            with contextlib.ExitStack() as stack:
                sandbox = stack.enter_context(self._on(base, kept))
                if kept and not self._put_in_place(sandbox, kept):
                    continue
                if self.head != self.origin.commit:
                    self._check_out_head(sandbox)
                if kept and self.setup and not kept.is_new:
                    self.setup.report(
                        f"Setup not run: its kept result is used: {self.setup.command}"
                    )
                # With a setup the tree holds more than the commit, which git has to sort out.
                self._settled = (self.head, b"" if kept else self._traces())
                stack.pop_all()
                return sandbox
        raise AssertionError("the last result is of this very commit")

    def _results(self, base: Path) -> Iterator[Kept | None]:
        """Yield the kept results to try, at last a new one; None alone without a setup."""
        if self.setup is None:
            yield None
            return
        key = layers.key_of(
            self.origin.mirror,
            self.origin.commit,
            command=self.setup.command,
            recipe=["overlay" if overlays_work() else "copy", *self._hosts],
        )
        yield from layers.find(self.setup.folder, key)
        yield layers.keep(self.setup.folder, key, self._set_up(base, self.setup))

    def _set_up(self, base: Path, setup: Setup) -> Path:
        """Run the setup alone, on the untouched base; return the folder with what it made."""
        folder = self._scratch()
        packed = prepare_owned(folder / "packed")
        command = Command(
            ["bash", "-c", setup.command], seconds=settings.SETUP_SECONDS, env=dict(QUIET_TOOLS)
        )
        workspace = self._layered(base, folder)
        with self._bubblewrap(workspace) as sandbox:
            seconds = prepared.set_up(sandbox, command)
            self._tell()
            most = settings.SANDBOX_DISK_BYTES
            prepared.pack_home(sandbox, packed, most=most, seconds=settings.SETUP_SECONDS)
            if workspace.upper is None:
                prepared.pack_tree(sandbox, packed, most=most, tools=self._tools)
        if workspace.upper is not None:
            # What the setup did to the folder itself must not keep us out of it.
            prepare_owned(workspace.upper)
        # A repository of the setup's own making would be every later run's.
        for name in ("tree/.git", "work", "copy"):
            remove_tree(folder / name)
        setup.report(f"Setup done in {seconds:.1f} s: {setup.command}")
        return folder

    def _put_in_place(self, sandbox: Sandbox, kept: Kept) -> bool:
        """Unpack what no layer shows and see what the setup made; False where it does not fit."""
        try:
            prepared.unpack(sandbox, kept.packed, seconds=settings.SETUP_SECONDS)
            self._made = prepared.see_made(sandbox, self._tools)
        except SetupFailed:
            if kept.is_own:
                raise
            return False
        return kept.is_own or not prepared.changes_tracked(self._made)

    @property
    def _tools(self) -> prepared.Tools:
        return prepared.Tools(self.origin.commit, self._objects, settings.SETUP_SECONDS)

    def _on(self, base: Path, kept: Kept | None) -> Bubblewrap:
        """Return a sandbox on the base and on what a setup made."""
        if self.is_read_only:
            return self._bubblewrap(Workspace(base=base, read_only=True))
        workspace = self._layered(base, self._scratch())
        self._written = workspace.upper or workspace.base
        if kept is None:
            return self._bubblewrap(workspace)
        layer = kept.tree if workspace.upper else None
        return self._bubblewrap(replace(workspace, layer=layer), kept.packed)

    def _scratch(self) -> Path:
        return prepare_owned(self.folder / f"layers-{self.generation}-{uuid.uuid4().hex[:8]}")

    def _bubblewrap(self, workspace: Workspace, *shown: Path) -> Bubblewrap:
        shown = (*git.borrowed_from(self.store), *shown)
        workspace = replace(workspace, read_only_paths=shown, proxy=self._proxy)
        toolchain = Toolchain.of_platform(private=[Path(settings.VAR_DIR), settings.RUNS_FOLDER])
        return Bubblewrap(workspace, limits_from_settings(), toolchain=toolchain)

    def _layered(self, base: Path, folder: Path) -> Workspace:
        """Return the base under an overlay, or, where there are none, a copy of it."""
        if overlays_work():
            upper, work = (prepare_owned(folder / name) for name in ("tree", "work"))
            return Workspace(base=base, upper=upper, work=work)
        copy = folder / "copy"
        # The base's .git borrows the mirror's objects, so a copy holds the tree alone.
        shutil.copytree(base, copy, symlinks=True)
        give_tree(copy)
        return Workspace(base=copy)

    @property
    def _objects(self) -> list[str]:
        return [str(self.origin.mirror / "objects"), str(self.store / "objects")]

    def _check_out_head(self, sandbox: Sandbox) -> None:
        script = ["bash", "-c", git.RESTORE_SCRIPT, "restore", self.head, *self._objects]
        command = Command(script, seconds=settings.CHECKPOINT_SECONDS, stdin=self._made)
        result = sandbox.run(command)
        if result.exit_code != 0:
            said = storable.text(result.text[-500:])
            raise WorkspaceLost(f"The last checkpoint could not be restored: {said}")

    def _traces(self) -> bytes:
        return traces_of(self._written) if self._written else b""

    def reset(self, commit: str) -> None:
        """Bring the tree back to a checkpoint, in a new sandbox."""
        self.head = commit or self.origin.commit
        self.sandbox.__exit__(None, None, None)

    def checkpoint(self, previous: str) -> Checkpoint | None:
        """Commit the tree inside, take its objects out, keep them here and in the storage.

        Returns None when nothing has changed since ``previous``. Raises CheckpointRefused,
        StorageAway.
        """
        # Before the command is made: what the setup made is known once a sandbox is open.
        self.sandbox.make_ready()
        traces = self._traces()
        if traces and self._settled == (previous, traces):
            return None
        script = ["bash", "-c", git.CHECKPOINT_SCRIPT, "checkpoint", previous, *self._objects]
        limits = pack_limits_from_settings()
        room = limits.pack + BESIDE_PACK
        command = Command(
            script,
            seconds=limits.seconds,
            stdin=self._made,
            env={"ASYNCCODER_TREE": self._tree[1]} if self._tree[0] == previous else {},
            keep=room,
            output=room,
            errors_apart=True,
        )
        result = self.sandbox.run(command)
        if result.exit_code != 0 or result.is_cut:
            raise CheckpointRefused(_why_refused(result, limits))
        try:
            made = git.accept_checkpoint(
                self.store, result.output, previous=previous, limits=limits
            )
        except git.CheckpointBad as error:
            if error.is_disk_full:
                raise failure(error) from error
            raise CheckpointRefused(str(error)) from error
        self._settled = (made.commit, traces)
        self._tree = (made.commit, made.tree)
        if not made.is_new:
            return None
        packs.keep(Claim(self.task_id, self.generation), made.commit, made.pack)
        git.keep_ref(self.store, "checkpoint", made.commit)
        self.head = made.commit
        return Checkpoint(made.commit, made.tree)


def _why_refused(result: CommandResult, limits: git.PackLimits) -> str:
    if result.stopped == "output":
        return "The changes are larger than a checkpoint may be."
    if result.stopped == "timeout":
        return f"The workspace was not checkpointed within {limits.seconds:g} s."
    reason = result.errors.decode("utf-8", "replace")[-500:] or result.text[-200:]
    return f"The workspace could not be checkpointed: {storable.text(reason)}"
