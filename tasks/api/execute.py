"""Executions (S3): one request that starts a task, and its result in time or as a stream."""

from __future__ import annotations

import re
from typing import Any, cast
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from asynccoder.api.dialects import Foreign, iso
from asynccoder.api.permissions import InScope, has_scope
from asynccoder.lib.errors import NotAllowed
from billing.ledger import whole_credits
from tasks import lifecycle, streams
from tasks.api import requests
from tasks.api.serializers import ExecuteRequestSerializer, ResultSerializer, WaitQuery
from tasks.api.shapes import EXECUTION, IDEMPOTENCY
from tasks.messages import results_of
from tasks.models import Task, TaskQuerySet

READING = "task:read"
EVENT_ID = re.compile(r"\d{1,18}", re.ASCII)
PLACE = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}


class ExecuteViewSet(GenericViewSet[Task]):
    """Start a task and wait for its result, or follow it; join a task that runs."""

    resource = "task"

    def get_queryset(self) -> TaskQuerySet:
        tasks: TaskQuerySet = Task.objects.visible_to(self._user)
        return tasks

    @extend_schema(
        parameters=[WaitQuery, IDEMPOTENCY],
        request=ExecuteRequestSerializer,
        responses={200: EXECUTION, 202: EXECUTION, 402: None},
    )
    def execute(self, request: Request) -> Response:
        """Start a task; with ``?wait=SECONDS`` answer 200 with its result if that is ready in time.

        Where too many requests wait already, this one does not: 202.
        """
        query = WaitQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        seconds = query.validated_data["wait"]
        if seconds:
            _require_reading(request)
        task = self._create(request)
        if seconds and not task.is_finished:
            streams.wait_until_ended(task, seconds)
        return self._answered(request, task)

    @extend_schema(
        parameters=[IDEMPOTENCY],
        request=ExecuteRequestSerializer,
        responses={(200, "text/event-stream"): str, 402: None},
    )
    def execute_stream(self, request: Request) -> HttpResponse:
        """Start a task and answer with its events."""
        _require_reading(request)
        # A place first: a stream that is refused has started nothing.
        slot = streams.slot_of(request._request, self._user)
        return streams.answer(slot, self._create(request), 0)

    @extend_schema(
        parameters=[
            OpenApiParameter("Last-Event-ID", PLACE, OpenApiParameter.HEADER),
            OpenApiParameter("after", PLACE, description="The same, for who sends no headers."),
        ],
        responses={(200, "text/event-stream"): str, 204: None},
    )
    def stream(self, request: Request, pk: UUID) -> HttpResponse:
        """Answer with the task's events behind ``Last-Event-ID`` (or ``?after=``).

        204 tells a client that has seen the end not to come again.
        """
        after = _place(request)
        task = get_object_or_404(self.get_queryset(), pk=pk)
        if task.is_finished and after >= task.event_sequence:
            return HttpResponse(status=204)
        slot = streams.slot_of(request._request, self._user)
        return streams.answer(slot, task, after)

    @property
    def _user(self) -> User:
        return cast("User", self.request.user)

    def _create(self, request: Request) -> Task:
        body = ExecuteRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        wanted = requests.wanted(request, given, type=given["task_type"])
        return lifecycle.create_task(owner=self._user, request=wanted)[0]

    def _answered(self, request: Request, task: Task) -> Response:
        now = self.get_queryset().select_related("result", "analysis", "model").get(pk=task.pk)
        shown = _shown(now)
        if not has_scope(request, READING):
            # An idempotency key has named a task that may have ended.
            shown["result"] = None
        return Response(shown, status=200 if now.is_finished else 202)


def _require_reading(request: Request) -> None:
    """Raise NotAllowed for an access key that may start tasks and not look at them."""
    if not has_scope(request, READING):
        raise NotAllowed(InScope.message)


def _place(request: Request) -> int:
    given = {
        "Last-Event-ID": request.headers.get("Last-Event-ID") or None,
        "after": request.query_params.get("after"),
    }
    named = {name: text for name, text in given.items() if text is not None}
    for name, text in named.items():
        if not EVENT_ID.fullmatch(text):
            raise ValidationError({name: ["Give the number of an event."]})
    return int(next(iter(named.values()), 0))


def _shown(task: Task) -> dict[str, Any]:
    """Return an execution; ``result`` is null until there is one."""
    result = getattr(task, "result", None)
    handed = dict(ResultSerializer(result).data) | results_of(task) if result else None
    error = {"code": task.error_code, "message": task.error_message}
    return {
        "task_id": str(task.pk),
        "task_type": task.type,
        "status": task.status,
        "progress": task.progress,
        "model": task.model.name,
        "credits_used": whole_credits(task.charged_microcredits),
        "result": Foreign(handed) if handed else None,
        "error": error if task.error_code else None,
        "created_at": iso(task.created_at),
        "completed_at": iso(task.completed_at) if task.completed_at else None,
        "task_url": f"/api/v1/tasks/{task.pk}",
        "stream_url": f"/api/v1/tasks/{task.pk}/stream",
    }
