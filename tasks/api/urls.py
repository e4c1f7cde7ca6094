"""API routes of this app, written without a trailing slash (it is optional everywhere)."""

from __future__ import annotations

from django.urls import URLPattern, path

from tasks.api.execute import ExecuteViewSet
from tasks.api.usage import UsageView
from tasks.api.views import TaskViewSet
from tasks.api.work import AnalysisViewSet, BuildViewSet

many = TaskViewSet.as_view({"get": "list", "post": "create"})
one = TaskViewSet.as_view({"get": "retrieve", "put": "update", "delete": "cancel"})

v1: list[URLPattern] = [
    path("tasks", many, name="v1-tasks"),
    path("tasks/<uuid:pk>", one, name="v1-task"),
    path("tasks/<uuid:pk>/cancel", TaskViewSet.as_view({"post": "cancel"}), name="v1-task-cancel"),
    path("tasks/<uuid:pk>/log", TaskViewSet.as_view({"get": "log"}), name="v1-task-log"),
    path("tasks/<uuid:pk>/patch", TaskViewSet.as_view({"get": "patch_file"}), name="v1-task-patch"),
    path("tasks/<uuid:pk>/bundle", TaskViewSet.as_view({"get": "bundle"}), name="v1-task-bundle"),
    path(
        "tasks/<uuid:pk>/results", TaskViewSet.as_view({"get": "results"}), name="v1-task-results"
    ),
    path(
        "tasks/<uuid:pk>/artifacts",
        TaskViewSet.as_view({"get": "artifacts"}),
        name="v1-task-artifacts",
    ),
    path(
        "tasks/<uuid:pk>/artifacts/<slug:artifact>",
        TaskViewSet.as_view({"get": "artifact"}),
        name="v1-task-artifact",
    ),
    path("users/usage", UsageView.as_view(), name="v1-users-usage"),
    path(
        "tasks/<uuid:pk>/stream", ExecuteViewSet.as_view({"get": "stream"}), name="v1-task-stream"
    ),
    path("execute", ExecuteViewSet.as_view({"post": "execute"}), name="v1-execute"),
    path(
        "execute/stream",
        ExecuteViewSet.as_view({"post": "execute_stream"}),
        name="v1-execute-stream",
    ),
]
"""Mounted under /api/v1/ (plain dialect)."""

envelope: list[URLPattern] = [
    path("tasks", many, name="tasks"),
    path("tasks/<uuid:pk>", TaskViewSet.as_view({"get": "retrieve"}), name="task"),
    path("tasks/<uuid:pk>/cancel", TaskViewSet.as_view({"put": "cancel"}), name="task-cancel"),
]
"""Mounted under /api/ (envelope dialect)."""

work: list[URLPattern] = [
    path("build", BuildViewSet.as_view({"get": "list", "post": "create"}), name="builds"),
    path(
        "build/<uuid:pk>",
        BuildViewSet.as_view({"get": "retrieve", "delete": "cancel"}),
        name="build",
    ),
    path("analysis", AnalysisViewSet.as_view({"get": "list", "post": "create"}), name="analyses"),
    path("analysis/<uuid:pk>", AnalysisViewSet.as_view({"get": "retrieve"}), name="analysis"),
]
"""Mounted under /api/ (plain dialect)."""
