"""The storage of runs: whether a checkpoint could be kept, read again and removed, and for how long."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages

from asynccoder.doctor.findings import Finding, failed, ok, warning
from tasks.packs import FAILURES

PROBE_BYTES = 4096
CHECKPOINTS = 10
"""Of the largest size, for every slot: with room for fewer, the storage is soon full."""
MEND = {
    errno.ENOSPC: "it is full: make room",
    errno.EDQUOT: "its quota is used up: make room",
    errno.EROFS: "it is mounted read-only: mount it for writing",
    errno.EACCES: "this user may not write there: change its owner or mode",
    errno.EPERM: "this user may not write there: change its owner or mode",
    errno.ESTALE: "its server has another folder there now: mount it again",
}
GIB = 1024**3


def check_storage() -> Iterator[Finding]:
    """Write, read and remove a probe where the checkpoints of runs are kept."""
    kept = storages["runs"]
    location = getattr(kept, "location", None)
    folder = Path(location) if location else None
    # FileSystemStorage would make it, on this machine's own disk, where a mount is missing.
    if folder and os.environ.get("RUNS_STORAGE") and not folder.is_dir():
        yield failed(f"{folder} is not there: mount what RUNS_STORAGE names, or make the folder.")
        return
    try:
        problem = _probe(kept)
    except FAILURES as error:
        yield failed(f"no checkpoint can be kept in {folder or 'RUNS_STORAGE'}: {_why(error)}.")
        return
    yield failed(problem) if problem else _room(folder)


def _probe(kept: Storage) -> str:
    """Return what is wrong with what comes back, or "". Raises FAILURES."""
    content, wanted = secrets.token_bytes(PROBE_BYTES), f"doctor-{secrets.token_hex(8)}"
    name = wanted
    try:
        name = kept.save(wanted, ContentFile(content))
        with kept.open(name) as file:
            found = file.read()
        kept.delete(name)
        is_left = kept.exists(name)
    except FAILURES:
        # A full disk leaves a name without content.
        with suppress(*FAILURES):
            kept.delete(name)
        raise
    if found != content:
        return "the storage of runs gives back something else than was written: replace it."
    return "the storage of runs does not remove what is deleted: it fills up." if is_left else ""


def _why(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return MEND.get(number or 0) or (os.strerror(number) if number else type(error).__name__)


def _room(folder: Path | None) -> Finding:
    if folder is None:
        return ok("a checkpoint was written, read and removed")
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    said = f"{folder} has {free / GIB:.1f} GiB free"
    if free < settings.CHECKPOINT_BYTES * settings.WORKER_SLOTS * CHECKPOINTS:
        return warning(
            f"{said}, less than {CHECKPOINTS} checkpoints of each slot may need: make room."
        )
    return ok(f"{said}; a checkpoint was written, read and removed")
