"""Checkpoints as packs in the configured storage: with them another machine takes a run over.

A pack is named after its task, the generation of the lease that wrote it and its commit. Nobody
else writes under a generation, so a stale worker replaces nothing, and what a dead one left half
written no row names. It is written before the row, so that every row names a whole pack.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection
from contextlib import suppress

from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages

from tasks.errors import StorageAway, WorkspaceLost
from tasks.lease import Claim
from tasks.models import Task

logger = logging.getLogger(__name__)

FAILURES = (OSError,)
"""How a storage says that it is full or away; a backend with errors of its own adds them."""


def _storage() -> Storage:
    return storages["runs"]


def _name(claimed: Claim, commit: str) -> str:
    return f"{claimed.task_id}/{claimed.generation}-{commit}.pack"


def keep(claimed: Claim, commit: str, pack: bytes) -> None:
    """Write a checked pack. Raises StorageAway."""
    name = _name(claimed, commit)
    try:
        saved = _storage().save(name, ContentFile(pack))
        if saved != name:
            # This lease has made the same commit before, so the pack is there.
            _storage().delete(saved)
    except FAILURES as error:
        logger.warning("run %s: a checkpoint is not stored: %s", claimed.task_id, error)
        with suppress(*FAILURES):
            _storage().delete(name)
        raise StorageAway from error


def read(claimed: Claim, commit: str, *, most: int) -> bytes:
    """Return a pack, cut after ``most`` + 1 bytes. Raises WorkspaceLost, StorageAway."""
    try:
        with _storage().open(_name(claimed, commit)) as file:
            content: bytes = file.read(most + 1)
    except FileNotFoundError as error:
        if _is_empty():
            # Not mounted, or not the storage of the other machines: no task fails for that.
            raise StorageAway from error
        raise WorkspaceLost(f"The checkpoint {commit[:12]} is not in the storage.") from error
    except FAILURES as error:
        logger.warning("run %s: a checkpoint is not read: %s", claimed.task_id, error)
        raise StorageAway from error
    return content


def _is_empty() -> bool:
    try:
        return not any(_storage().listdir(""))
    except FAILURES:
        return True


def keep_only(task_id: uuid.UUID, wanted: Collection[tuple[int, str]]) -> None:
    """Remove a task's packs but those of these generations and commits.

    A storage that does not answer keeps them: they are only in the way.
    """
    kept = {_name(Claim(task_id, generation), commit) for generation, commit in wanted}
    folder = str(task_id)
    try:
        for name in _storage().listdir(folder)[1]:
            if f"{folder}/{name}" not in kept:
                _storage().delete(f"{folder}/{name}")
        if not kept:
            _storage().delete(folder)
    except FileNotFoundError:
        return
    except FAILURES as error:
        logger.warning("run %s: old checkpoints are not removed: %s", task_id, error)


def forget_repository(repository_id: uuid.UUID) -> None:
    """Remove the packs of a repository's tasks (UPCALLS, repository_closed)."""
    for task_id in Task.objects.filter(repository=repository_id).values_list("pk", flat=True):
        keep_only(task_id, ())
