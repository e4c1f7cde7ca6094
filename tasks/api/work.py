"""Builds and analyses (S2): tasks under other words. Every change is a verb of ``tasks.lifecycle``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, cast
from uuid import UUID

from django.db.models import Prefetch
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from asynccoder.api.dialects import Foreign, iso
from asynccoder.api.shapes import MESSAGE
from asynccoder.lib.errors import NotAllowed, NotFound
from repositories import hosted
from repositories.models import Repository
from tasks import lifecycle
from tasks.api import requests
from tasks.api.serializers import (
    ANALYSIS_TYPES,
    AnalysisRequestSerializer,
    BuildRequestSerializer,
)
from tasks.api.shapes import BUILD_STARTED, IDEMPOTENCY, AnalysisSerializer, BuildSerializer
from tasks.messages import results_of, shown_status
from tasks.models import WORK, Analysis, Check, Task, TaskQuerySet, TaskType

SECURITY_TOOLS = frozenset({"bandit", "secrets"})


class WorkViewSet(GenericViewSet[Task]):
    """One kind of work. One that exists and is another's is 403: S2 says so of these alone."""

    resource: ClassVar[str]
    plural: ClassVar[str]

    def get_queryset(self) -> TaskQuerySet:
        tasks: TaskQuerySet = Task.objects.visible_to(self._user)
        return _loaded(tasks.filter(type__in=WORK[self.resource]))

    def list(self, request: Request) -> Response:
        page = self.paginate_queryset(self.get_queryset().order_by("-created_at", "-id"))
        return self.get_paginated_response([self.shown(task) for task in page or []])

    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(self.shown(self._task(pk)))

    def shown(self, task: Task) -> dict[str, Any]:
        """Return the work as its routes show it."""
        raise NotImplementedError

    @property
    def _user(self) -> User:
        return cast("User", self.request.user)

    def _task(self, pk: UUID) -> Task:
        task = self.get_queryset().filter(pk=pk).first()
        if task is not None:
            return task
        if Task.objects.filter(pk=pk, type__in=WORK[self.resource]).exists():
            raise NotAllowed(f"This {self.resource} is not yours.")
        raise NotFound(f"There is no such {self.resource}.")


class BuildViewSet(WorkViewSet):
    """Start, list, show and cancel builds."""

    serializer_class = BuildSerializer
    resource = "build"
    plural = "builds"

    @extend_schema(
        parameters=[IDEMPOTENCY],
        request=BuildRequestSerializer,
        responses={202: BUILD_STARTED, 402: None},
    )
    def create(self, request: Request) -> Response:
        body = BuildRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        task, _ = lifecycle.create_project_task(
            owner=self._user,
            project_name=given["project_name"],
            request=requests.wanted(request, given, type=TaskType.BUILD, prompt=given["goal"]),
        )
        answer = {
            "task_id": str(task.pk),
            "status": shown_status(task.status),
            "message": "Build task created successfully",
        }
        return Response(answer, status=202)

    @extend_schema(responses={200: MESSAGE})
    def cancel(self, request: Request, pk: UUID) -> Response:
        lifecycle.cancel_task(self._task(pk), by=self._user)
        return Response({"message": "Build task cancelled successfully"})

    def shown(self, task: Task) -> dict[str, Any]:
        has_result = getattr(task, "result", None) is not None
        return {
            "task_id": str(task.pk),
            "project_name": _project(task),
            "status": shown_status(task.status),
            "progress": task.progress,
            "created_at": iso(task.created_at),
            "created_by": task.owner.username,
            "goal": task.prompt,
            "results": Foreign(results_of(task)) if has_result else None,
            "error": task.error_message or None,
        }


class AnalysisViewSet(WorkViewSet):
    """Start, list and show analyses."""

    serializer_class = AnalysisSerializer
    resource = "analysis"
    plural = "analyses"

    @extend_schema(
        parameters=[IDEMPOTENCY],
        request=AnalysisRequestSerializer,
        responses={202: AnalysisSerializer, 402: None},
    )
    def create(self, request: Request) -> Response:
        body = AnalysisRequestSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        types = [one for one in ANALYSIS_TYPES if one in given["analysis_types"]]
        wanted = requests.wanted(
            request,
            given,
            type=TaskType.ANALYSIS,
            prompt=f"Analyse {', '.join(types)}.",
            parameters=given.get("parameters", {}) | {"analysis_types": types},
        )
        if wanted.repository is None:
            wanted = replace(wanted, repository=self._named(given["project_name"]))
        task, _ = lifecycle.create_task(owner=self._user, request=wanted)
        return Response(self.shown(self._task(task.pk)), status=202)

    def _named(self, name: str) -> Repository:
        found = hosted.named(self._user, name)
        if found is None:
            raise NotFound(f"You have no repository called {name}.")
        return found

    def shown(self, task: Task) -> dict[str, Any]:
        """Return the figures; what is not known (yet) is null."""
        found: Analysis | None = getattr(task, "analysis", None)
        data = task.result.data if found and hasattr(task, "result") else {}
        is_secured = found is not None and not SECURITY_TOOLS.isdisjoint(found.tools)
        return {
            "analysis_id": str(task.pk),
            "project_name": _project(task),
            "repository_id": str(task.repository_id) if task.repository_id else None,
            "branch": task.branch or (task.repository.default_branch if task.repository else None),
            "analysis_types": task.parameters.get("analysis_types", list(ANALYSIS_TYPES)),
            "status": shown_status(task.status),
            "progress": task.progress,
            "timestamp": iso(task.created_at),
            "completed_at": iso(task.completed_at) if task.completed_at else None,
            "performed_by": task.owner.username,
            "quality_score": found.quality_score if found else None,
            "security_issues": found.security_issues if found and is_secured else None,
            "code_smells": found.code_smells if found else None,
            "type_errors": found.type_errors if found else None,
            "coverage_percent": found.coverage_percent if found else None,
            "recommendations": found.recommendations if found else None,
            "tools": Foreign(found.tools) if found else None,
            "not_measured": Foreign(data.get("not_measured", {})) if found else None,
            "error": task.error_message or None,
        }


def _loaded(tasks: TaskQuerySet) -> TaskQuerySet:
    """Return the tasks with what is shown of them, and without what may be long."""
    checks = Check.objects.filter(phase=Check.Phase.AFTER).only("task_id", "verdict")
    related = ("owner", "repository", "result", "analysis")
    long = ("files", "patch", "result__diff", "result__content")
    return (
        tasks.select_related(*related)
        .defer(*long)
        .prefetch_related(Prefetch("checks", checks, to_attr="checks_after"))
    )


def _project(task: Task) -> str | None:
    return task.repository.name if task.repository else None
