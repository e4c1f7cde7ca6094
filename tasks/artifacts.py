"""What a task hands back as files: the patch, its commits as a bundle, each step's whole output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db.models import Max

from asynccoder.lib.attachments import BINARY, TEXT
from asynccoder.lib.errors import AppError, NotFound
from repositories import git
from repositories.errors import as_failed_run
from tasks import stepview, stores
from tasks.models import Step, Task

PATCH_TYPE = "text/x-patch; charset=utf-8"
STEP = "step-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file to keep. ``id`` names it within its task; ``size_bytes`` is None until it is made."""

    id: str
    name: str
    content_type: str
    body: str | bytes = b""
    size_bytes: int | None = None
    step: int | None = None
    title: str = ""


def of(task: Task) -> Iterator[Artifact]:
    """Yield what there is now, without the bodies; a step that has not ended has no output yet."""
    result = getattr(task, "result", None)
    if result is not None and result.diff:
        size = len(result.diff.encode())
        yield Artifact(
            id="patch", name=_name(task, ".patch"), content_type=PATCH_TYPE, size_bytes=size
        )
    if _has_commits(task):
        yield Artifact(id="bundle", name=_name(task, ".bundle"), content_type=BINARY)
    for step in _ended(task).defer("input", "outcome").annotate(size=Max("artifacts__size_bytes")):
        yield _output(task, step, size_bytes=step.size)


def read(task: Task, artifact_id: str) -> Artifact:
    """Return an artifact with its body. Raises NotFound."""
    if artifact_id == "patch":
        return patch_of(task)
    if artifact_id == "bundle":
        return bundle_of(task)
    ordinal = artifact_id.removeprefix(STEP)
    if artifact_id.startswith(STEP) and ordinal.isascii() and ordinal.isdigit():
        step = _ended(task).filter(ordinal=min(int(ordinal[:10]), 2**31 - 1)).first()
        if step is not None:
            return _output(task, step, body=stepview.output_of(step).encode())
    raise NotFound("There is no such artifact.")


def patch_of(task: Task) -> Artifact:
    """Return the whole difference, for ``git apply``. Raises NotFound."""
    result = getattr(task, "result", None)
    if result is None or not result.diff:
        raise NotFound("This task has changed no files.")
    name = _name(task, ".patch")
    return Artifact(id="patch", name=name, content_type=PATCH_TYPE, body=result.diff)


def bundle_of(task: Task) -> Artifact:
    """Return the task's commits as a git bundle, to fetch from like from a remote.

    Raises NotFound where nothing was changed or the commits cannot be brought here now.
    """
    if not _has_commits(task):
        raise NotFound("This task has changed no files.")
    branch = task.result_branch or f"asynccoder/{str(task.pk)[:8]}"
    head = stores.newest_commit(task)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.bundle"
        try:
            store = stores.store_of(task)
            with as_failed_run():
                git.write_bundle(store, task.base_commit, head, path, branch=branch)
        except AppError as error:
            raise NotFound("The commits of this task are not here now.") from error
        body = path.read_bytes()
    return Artifact(id="bundle", name=_name(task, ".bundle"), content_type=BINARY, body=body)


def _has_commits(task: Task) -> bool:
    return bool(task.base_commit) and stores.newest_commit(task) not in ("", task.base_commit)


def _ended(task: Task) -> Any:
    """Return the steps that have an output, without what they were asked."""
    steps = Step.objects.filter(task=task, kind=Step.Kind.TOOL_CALL, state=Step.State.DONE)
    return steps.defer("input").order_by("ordinal", "-attempt")


def _output(task: Task, step: Step, **values: Any) -> Artifact:
    return Artifact(
        id=f"{STEP}{step.ordinal}",
        name=_name(task, f"-step-{step.ordinal}.txt"),
        content_type=TEXT,
        step=step.ordinal,
        title=step.summary,
        **values,
    )


def _name(task: Task, end: str) -> str:
    return f"task-{str(task.pk)[:8]}{end}"
