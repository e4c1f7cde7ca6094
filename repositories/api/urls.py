"""API routes of this app, written without a trailing slash (it is optional everywhere)."""

from __future__ import annotations

from django.urls import URLPattern, path

from repositories.api.views import RepositoryViewSet
from repositories.api.webhooks import GithubWebhook

_list = RepositoryViewSet.as_view({"get": "list", "post": "create"})
_only_list = RepositoryViewSet.as_view({"get": "list"})
_detail = RepositoryViewSet.as_view(
    {"get": "retrieve", "put": "edit", "patch": "edit", "delete": "destroy"}
)
_branches = RepositoryViewSet.as_view({"get": "branches"})
_sync = RepositoryViewSet.as_view({"post": "sync"})

v1: list[URLPattern] = [
    path("repositories", _list),
    path("repositories/sync", _sync),
    path("repositories/<uuid:pk>", _detail),
    path("repositories/<uuid:pk>/branches", _branches),
    path(
        "repositories/<uuid:pk>/bundle",
        RepositoryViewSet.as_view({"get": "bundle"}),
        name="v1-repository-bundle",
    ),
    path(
        "repositories/<uuid:pk>/zip",
        RepositoryViewSet.as_view({"get": "zip_file"}),
        name="v1-repository-zip",
    ),
]
"""Mounted under /api/v1/ (plain dialect)."""

envelope: list[URLPattern] = [
    path("repositories", _only_list),
    path("repositories/sync", _sync),
    path("webhooks/github", GithubWebhook.as_view()),
    path("repositories/<uuid:pk>/branches", _branches),
]
"""Mounted under /api/ (envelope dialect)."""
