"""A task's store, brought back from the mirror and the storage where it is not on this machine.

Nothing is taken on trust: a start is the noted commit or none, and packs pass the checks that they
passed when the sandbox handed them over. A store that cannot be brought back whole is WorkspaceLost.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from repositories import connect, git
from repositories.errors import FetchFailed, as_failed_run
from repositories.models import Repository
from tasks import packs
from tasks.errors import RepositoryClosed, WorkspaceLost
from tasks.lease import Claim
from tasks.models import Step, Task
from tasks.workspace import pack_limits_from_settings, store_path, task_folder

WAIT_SECONDS = 600.0
START, FINAL = "start", "final commit"
"""The names of two notes: the commits a run starts from, and the one that it hands over."""


def mirror_of(task: Task) -> Path:
    """Return the bare repository that a task's store borrows from."""
    if task.repository is None:
        return task_folder(task.pk) / "origin.git"
    return connect.mirror_path(task.repository)


def make_origin(task: Task) -> str:
    """Make the repository of a task without one from the request's files; return its commit."""
    files = {file["path"]: file["content"].encode() for file in task.files}
    return git.create_origin(mirror_of(task), files)


def newest_commit(task: Task) -> str:
    """Return the final commit where the task has one, else its newest checkpoint."""
    final = task.steps.filter(name=FINAL, state=Step.State.DONE)
    return final.values_list("outcome", flat=True).last() or task.head_commit


def store_of(task: Task) -> Path:
    """Return a task's store, whole up to its newest commit, for reading.

    Raises AppErrors where it cannot be brought here now.
    """
    store = store_path(task.pk)
    needed = [commit for commit in (task.base_commit, newest_commit(task)) if commit]
    with as_failed_run():
        if not git.absent_commits(store, needed):
            return store
    # A page waits for nobody: the next one finds what another is bringing.
    bring_back(task, start_of(task), patience=0)
    return store


def start_of(task: Task) -> dict[str, str]:
    """Return the commits that the run noted at its start. Raises WorkspaceLost."""
    noted = task.steps.filter(name=START, state=Step.State.DONE).last()
    if noted is None:
        raise WorkspaceLost
    commits: dict[str, str] = json.loads(noted.outcome)["commits"]
    return commits


def bring_back(task: Task, commits: Mapping[str, str], *, patience: float = WAIT_SECONDS) -> None:
    """Make the store whole here: the start commits, then each checkpoint that is missing.

    Does next to nothing where all is there. Raises WorkspaceLost, StorageAway, RunFailed's children.
    """
    store = store_path(task.pk)
    with as_failed_run(), git.locked(store, seconds=patience):
        _bring_start(task, commits)
        git.create_store(store, mirror_of(task))
        if task.patch:
            _bring_patch(task, commits)
        _bring_checkpoints(task, commits)


def _bring_start(task: Task, commits: Mapping[str, str]) -> None:
    mirror = mirror_of(task)
    # What a patch makes is no commit of the repository.
    wanted = [commits["base"]] if task.patch else list(commits.values())
    if not git.absent_commits(mirror, wanted):
        return
    if task.repository is None:
        if make_origin(task) != commits["base"]:
            raise WorkspaceLost("The files of the request make another start than before.")
        return
    _fetch(task.repository, mirror, wanted)


def _fetch(repository: Repository, mirror: Path, wanted: list[str]) -> None:
    """Fetch the branches and, where they were moved meanwhile, the commits by their names."""
    if not repository.is_active:
        raise RepositoryClosed
    connect.sync_repository(repository)
    for commit in git.absent_commits(mirror, wanted):
        with suppress(FetchFailed):
            connect.fetch_commit(repository, commit)
    if git.absent_commits(mirror, wanted):
        raise WorkspaceLost(
            "The commit that this task began with is not in the repository any more."
        )


def _bring_patch(task: Task, commits: Mapping[str, str]) -> None:
    store = store_path(task.pk)
    if git.absent_commits(store, [commits["head"]]):
        made = git.apply_patch_tree(store, commits["base"], task.patch)
        if made != commits["head"]:
            raise WorkspaceLost("The patch of the request makes another tree than before.")


@dataclass(frozen=True, slots=True)
class Packed:
    """A commit that a settled step names, and the lease that kept its pack."""

    generation: int
    commit: str
    tree: str
    is_final: bool


def packed_commits(task: Task) -> list[Packed]:
    """Return a task's checkpoints in their order and, last, its final commit."""
    done = task.steps.filter(state=Step.State.DONE).order_by("ordinal")
    rows = done.exclude(checkpoint="").values_list("generation", "checkpoint", "tree_after")
    found = [Packed(*row, is_final=False) for row in rows]
    if found:
        finals = done.filter(name=FINAL).values_list("generation", "outcome")
        found += [Packed(*row, found[-1].tree, is_final=True) for row in finals]
    return found


def _bring_checkpoints(task: Task, commits: Mapping[str, str]) -> None:
    found, store = packed_commits(task), store_path(task.pk)
    absent = set(git.absent_commits(store, [one.commit for one in found]))
    previous = commits["base"]
    for one in found:
        if one.commit in absent:
            _bring(task, one, commits["base"] if one.is_final else previous)
        previous = one.commit


def _bring(task: Task, packed: Packed, previous: str) -> None:
    store, limits = store_path(task.pk), pack_limits_from_settings()
    pack = packs.read(Claim(task.pk, packed.generation), packed.commit, most=limits.pack)
    try:
        if packed.is_final:
            git.accept_final(store, pack, commit=packed.commit, tree=packed.tree, parent=previous)
        else:
            output = f"{packed.commit} {packed.tree}\n".encode() + pack
            git.accept_checkpoint(store, output, previous=previous, limits=limits)
    except git.CheckpointBad as error:
        raise WorkspaceLost(
            f"The checkpoint {packed.commit[:12]} was damaged in the storage."
        ) from error


def tidy(task_id: uuid.UUID) -> None:
    """Remove the packs that no row names; all of them once the repository was disconnected."""
    task = Task.objects.select_related("repository").get(pk=task_id)
    is_open = task.repository is None or task.repository.is_active
    found = packed_commits(task) if is_open else []
    packs.keep_only(task.pk, [(one.generation, one.commit) for one in found])
