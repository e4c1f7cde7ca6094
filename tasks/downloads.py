"""What a task hands back, as files to keep."""

from __future__ import annotations

import uuid

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from tasks import panes, stepview
from tasks.views import task_of


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
