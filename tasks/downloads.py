"""What a task hands back, as files to keep."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from asynccoder.lib.errors import AppError
from repositories import git
from tasks import panes, stepview
from tasks.models import Step, Task
from tasks.views import task_of
from tasks.workspace import store_path


def _attachment(body: bytes, name: str, content_type: str) -> HttpResponse:
    response = HttpResponse(body, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


@require_GET
@login_required
def patch(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    """Answer the whole difference as a patch for ``git apply``."""
    task = task_of(request, task_id, "result")
    diff = panes.diff_of(task)
    if not diff:
        raise Http404
    name = f"task-{str(task.pk)[:8]}.patch"
    return _attachment(diff.encode(), name, "text/plain; charset=utf-8")


@require_GET
@login_required
def step_output(request: HttpRequest, task_id: uuid.UUID, ordinal: int) -> HttpResponse:
    """Answer a step's whole output as it was written, escapes and all."""
    task = task_of(request, task_id)
    step = stepview.newest(task, ordinal)
    name = f"task-{str(task.pk)[:8]}-step-{ordinal}.txt"
    return _attachment(stepview.output_of(step).encode(), name, "text/plain; charset=utf-8")


@require_GET
@login_required
def bundle(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    """Answer the task's commits as a git bundle, to fetch from like from a remote."""
    task = task_of(request, task_id)
    body = _bundle_of(task)
    return _attachment(body, f"task-{str(task.pk)[:8]}.bundle", "application/octet-stream")


def _bundle_of(task: Task) -> bytes:
    """Return the bundle, or raise Http404 where nothing was changed or the store is gone."""
    head = _newest_commit(task)
    store = store_path(task.pk)
    if not task.base_commit or head in ("", task.base_commit) or not store.is_dir():
        raise Http404
    branch = task.result_branch or f"asynccoder/{str(task.pk)[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.bundle"
        try:
            git.write_bundle(store, task.base_commit, head, path, branch=branch)
        except AppError as error:
            raise Http404 from error
        return path.read_bytes()


def _newest_commit(task: Task) -> str:
    """Return the final commit where the task has one, else its newest checkpoint."""
    final = Step.objects.filter(task=task, name="final commit", state=Step.State.DONE)
    return final.values_list("outcome", flat=True).last() or task.head_commit
