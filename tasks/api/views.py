"""Tasks over REST: the same views for both dialects. Every change is a verb of ``tasks.lifecycle``."""

from __future__ import annotations

import re
from typing import Any, cast
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from rest_framework.exceptions import ValidationError
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from aimodels.models import AIModel
from asynccoder.lib.errors import NotAllowed, NotFound
from billing.ledger import MICROCREDITS
from repositories.models import Repository
from tasks import lifecycle
from tasks.api import rows
from tasks.api.serializers import (
    IDEMPOTENCY_KEY,
    LogQuery,
    LogSerializer,
    TaskEditSerializer,
    TaskFilter,
    TaskRequestSerializer,
    TaskSerializer,
)
from tasks.lifecycle import TaskRequest
from tasks.models import Task, TaskQuerySet

SAME_NAME = (
    "type", "prompt", "title", "description", "branch", "target_branch", "priority",
    "parameters", "patch", "extra_calls",
)  # fmt: skip


class TaskViewSet(ListModelMixin, GenericViewSet[Task]):
    """Create, list, show, edit and cancel tasks; read their log and their patch."""

    serializer_class = TaskSerializer
    resource = "task"
    plural = "tasks"

    def get_queryset(self) -> TaskQuerySet:
        tasks: TaskQuerySet = Task.objects.visible_to(self._user)
        return tasks

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        wanted = TaskFilter(data=request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        tasks = self.get_queryset().filter(**wanted.validated_data)
        page = self.paginate_queryset(tasks.order_by("-created_at", "-id").values(*rows.COLUMNS))
        return self.get_paginated_response([rows.shown(row) for row in page or []])

    def create(self, request: Request) -> Response:
        given = TaskRequestSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = self._wanted(given.validated_data)
        task, is_new = lifecycle.create_task(owner=self._user, request=wanted)
        return Response(self._shown(task.pk), status=201 if is_new else 200)

    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(self._shown(pk))

    def update(self, request: Request, pk: UUID) -> Response:
        task = self._task(pk)
        self._refuse_onlookers(task)
        given = TaskEditSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        lifecycle.edit_task(task, **given.validated_data)
        return Response(self._shown(pk))

    def cancel(self, request: Request, pk: UUID) -> Response:
        """Cancel a task; one that runs ends as soon as its worker has ended its commands."""
        task = lifecycle.cancel_task(self._task(pk), by=self._user)
        message = {"message": "Task cancelled successfully"}
        return Response(message | {"id": task.pk, "status": task.status})

    def log(self, request: Request, pk: UUID) -> Response:
        """Return the events after a sequence number, in their order."""
        wanted = LogQuery(data=request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        after, limit = wanted.validated_data["after"], wanted.validated_data["limit"]
        task = self._task(pk)
        events = list(task.log.filter(sequence__gt=after).order_by("sequence")[:limit])
        last = events[-1].sequence if events else after
        return Response(
            {
                "task_id": task.pk,
                "status": task.status,
                "events": LogSerializer(events, many=True).data,
                "next_after": last,
                # Read before the events were: a newer one is told by its own number later.
                "has_more": last < task.event_sequence,
            }
        )

    def patch_file(self, request: Request, pk: UUID) -> HttpResponse:
        """Return the unified diff as a file that ``git apply`` takes."""
        result = getattr(self._task(pk, "result"), "result", None)
        if result is None or not result.diff:
            raise NotFound("This task has changed no files.")
        return HttpResponse(
            result.diff,
            content_type="text/x-patch; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="task-{str(pk)[:8]}.patch"'},
        )

    @property
    def _user(self) -> User:
        return cast("User", self.request.user)

    def _task(self, pk: UUID, *related: str) -> Task:
        return get_object_or_404(self.get_queryset().select_related(*related), pk=pk)

    def _shown(self, pk: UUID) -> dict[str, Any]:
        related = ("repository", "model", "result")
        task = get_object_or_404(
            self.get_queryset().select_related(*related).prefetch_related("checks"), pk=pk
        )
        return dict(TaskSerializer(task).data)

    def _refuse_onlookers(self, task: Task) -> None:
        if task.owner_id != self._user.pk and not self._user.is_admin:
            raise NotAllowed("You may look at this task, not change it.")

    def _wanted(self, given: dict[str, Any]) -> TaskRequest:
        cap = given.get("max_credits")
        return TaskRequest(
            repository=self._repository(given.get("repository_id")),
            model=self._model(given),
            files=[dict(file) for file in given.get("files", [])],
            cap_microcredits=cap * MICROCREDITS if cap else None,
            idempotency_key=_idempotency_key(self.request),
            **{name: given[name] for name in SAME_NAME if name in given},
        )

    def _repository(self, pk: UUID | None) -> Repository | None:
        if pk is None:
            return None
        found = Repository.objects.visible_to(self._user).active().filter(pk=pk).first()
        if found is None:
            raise NotFound("There is no such repository.")
        return found

    def _model(self, given: dict[str, Any]) -> AIModel | None:
        """Return the model that is named by its id or its name; the user's own goes first."""
        if given.get("ai_model_id"):
            models = AIModel.objects.visible_to(self._user).filter(pk=given["ai_model_id"])
        elif given.get("model"):
            models = AIModel.objects.for_use_by(self._user).filter(name=given["model"])
        else:
            return None
        found = models.filter(owner=self._user).first() or models.first()
        if found is None:
            raise NotFound("There is no such model.")
        return found


def _idempotency_key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not re.fullmatch(IDEMPOTENCY_KEY, key):
        raise ValidationError({"Idempotency-Key": ["Give 1 to 200 printable characters."]})
    return key
