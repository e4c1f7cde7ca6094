"""What a task hands back, as files to keep."""

from __future__ import annotations

import uuid

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from asynccoder.lib.attachments import TEXT, attachment
from asynccoder.lib.errors import NotFound
from tasks import artifacts, panes, stepview
from tasks.views import task_of


@require_GET
@login_required
def patch(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    """Answer the whole difference as a patch for ``git apply``, of a running task as it is now."""
    task = task_of(request, task_id, "result")
    diff = panes.diff_of(task)
    if not diff:
        raise Http404
    return attachment(diff, f"task-{str(task.pk)[:8]}.patch", TEXT)


@require_GET
@login_required
def step_output(request: HttpRequest, task_id: uuid.UUID, ordinal: int) -> HttpResponse:
    """Answer a step's whole output as it was written, escapes and all."""
    task = task_of(request, task_id)
    step = stepview.newest(task, ordinal)
    name = f"task-{str(task.pk)[:8]}-step-{ordinal}.txt"
    return attachment(stepview.output_of(step), name, TEXT)


@require_GET
@login_required
def bundle(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    """Answer the task's commits as a git bundle, to fetch from like from a remote."""
    try:
        made = artifacts.bundle_of(task_of(request, task_id))
    except NotFound as error:
        raise Http404 from error
    return attachment(made.body, made.name, made.content_type)
