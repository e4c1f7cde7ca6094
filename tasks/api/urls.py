"""API routes of this app, written without a trailing slash (it is optional everywhere)."""

from __future__ import annotations

from django.urls import URLPattern, path

from tasks.api.views import TaskViewSet

many = TaskViewSet.as_view({"get": "list", "post": "create"})
one = TaskViewSet.as_view({"get": "retrieve", "put": "update", "delete": "cancel"})

v1: list[URLPattern] = [
    path("tasks", many, name="v1-tasks"),
    path("tasks/<uuid:pk>", one, name="v1-task"),
    path("tasks/<uuid:pk>/cancel", TaskViewSet.as_view({"post": "cancel"}), name="v1-task-cancel"),
    path("tasks/<uuid:pk>/log", TaskViewSet.as_view({"get": "log"}), name="v1-task-log"),
    path("tasks/<uuid:pk>/patch", TaskViewSet.as_view({"get": "patch_file"}), name="v1-task-patch"),
]
"""Mounted under /api/v1/ (plain dialect)."""

envelope: list[URLPattern] = [
    path("tasks", many, name="tasks"),
    path("tasks/<uuid:pk>", TaskViewSet.as_view({"get": "retrieve"}), name="task"),
    path("tasks/<uuid:pk>/cancel", TaskViewSet.as_view({"put": "cancel"}), name="task-cancel"),
]
"""Mounted under /api/ (envelope dialect)."""
