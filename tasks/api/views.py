"""Tasks over REST: the same views for both dialects. Every change is a verb of ``tasks.lifecycle``."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from asynccoder.api.permissions import has_scope
from asynccoder.lib.attachments import attachment
from tasks import artifacts, lifecycle
from tasks.api import requests, rows
from tasks.api.serializers import (
    LogQuery,
    LogSerializer,
    TaskEditSerializer,
    TaskFilter,
    TaskRequestSerializer,
    TaskSerializer,
)
from tasks.api.shapes import ARTIFACTS, CANCELLED, IDEMPOTENCY, LOG, RESULTS, RowSerializer
from tasks.models import Task, TaskQuerySet

HANDED_BACK = (
    "type", "status", "outcome", "error", "results", "checks", "pull_request_url",
    "result_branch", "is_pushed", "patch_url", "bundle_url", "artifacts_url",
)  # fmt: skip


class TaskViewSet(ListModelMixin, GenericViewSet[Task]):
    """Create, list, show, edit and cancel tasks; read their log and their patch."""

    serializer_class = TaskSerializer
    resource = "task"
    plural = "tasks"

    def get_queryset(self) -> TaskQuerySet:
        tasks: TaskQuerySet = Task.objects.visible_to(self._user)
        return tasks

    @extend_schema(parameters=[TaskFilter], responses=RowSerializer(many=True))
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        wanted = TaskFilter(data=request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        tasks = self.get_queryset().filter(**wanted.validated_data)
        page = self.paginate_queryset(tasks.order_by("-created_at", "-id").values(*rows.COLUMNS))
        return self.get_paginated_response([rows.shown(row) for row in page or []])

    @extend_schema(
        parameters=[IDEMPOTENCY],
        request=TaskRequestSerializer,
        responses={200: TaskSerializer, 201: TaskSerializer, 402: None},
    )
    def create(self, request: Request) -> Response:
        given = TaskRequestSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = requests.wanted(request, given.validated_data)
        task, is_new = lifecycle.create_task(owner=self._user, request=wanted)
        return Response(self._answered(task.pk), status=201 if is_new else 200)

    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(self._shown(pk))

    @extend_schema(request=TaskEditSerializer)
    def update(self, request: Request, pk: UUID) -> Response:
        task = self._task(pk)
        given = TaskEditSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        lifecycle.edit_task(task, by=self._user, **given.validated_data)
        return Response(self._answered(pk))

    @extend_schema(request=None, responses={200: CANCELLED})
    def cancel(self, request: Request, pk: UUID) -> Response:
        """Cancel a task; one that runs ends as soon as its worker has ended its commands."""
        task = lifecycle.cancel_task(self._task(pk), by=self._user)
        message = {"message": "Task cancelled successfully"}
        return Response(message | {"id": task.pk, "status": task.status})

    @extend_schema(parameters=[LogQuery], responses=LOG)
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

    @extend_schema(responses=RESULTS)
    def results(self, request: Request, pk: UUID) -> Response:
        """Return what the task handed back, with its proof."""
        shown = self._shown(pk)
        return Response({"task_id": shown["id"]} | {name: shown[name] for name in HANDED_BACK})

    @extend_schema(responses=ARTIFACTS)
    def artifacts(self, request: Request, pk: UUID) -> Response:
        """Return what there is to keep: the patch, the bundle, each step's whole output."""
        task = self._task(pk, "result")
        found = [_artifact(task, one) for one in artifacts.of(task)]
        return Response({"task_id": task.pk, "status": task.status, "artifacts": found})

    @extend_schema(
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (200, "text/plain"): OpenApiTypes.STR,
            (200, "text/x-patch"): OpenApiTypes.STR,
        }
    )
    def artifact(self, request: Request, pk: UUID, artifact: str) -> HttpResponse:
        """Return one of them as a file."""
        return _file(artifacts.read(self._task(pk, "result"), artifact))

    @extend_schema(responses={(200, "text/x-patch"): OpenApiTypes.STR})
    def patch_file(self, request: Request, pk: UUID) -> HttpResponse:
        """Return the unified diff as a file that ``git apply`` takes."""
        return _file(artifacts.patch_of(self._task(pk, "result")))

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def bundle(self, request: Request, pk: UUID) -> HttpResponse:
        """Return the task's commits as a bundle that ``git fetch`` takes."""
        return _file(artifacts.bundle_of(self._task(pk)))

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

    def _answered(self, pk: UUID) -> dict[str, Any]:
        """Return a task after a change; what it handed back only to a credential that may read."""
        shown = self._shown(pk)
        if not has_scope(self.request, "task:read"):
            shown |= {"results": [], "checks": [], "pull_request_url": None}
        return shown


def _file(made: artifacts.Artifact) -> HttpResponse:
    return attachment(made.body, made.name, made.content_type)


def _artifact(task: Task, one: artifacts.Artifact) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "title": one.title,
        "content_type": one.content_type,
        "size_bytes": one.size_bytes,
        "step": one.step,
        "url": f"/api/v1/tasks/{task.pk}/artifacts/{one.id}",
    }
