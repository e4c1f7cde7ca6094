"""API routes of this app, written without a trailing slash (it is optional everywhere)."""

from __future__ import annotations

from django.urls import URLPattern, path

from repositories.api.views import RepositoryViewSet

_list = RepositoryViewSet.as_view({"get": "list", "post": "create"})
_only_list = RepositoryViewSet.as_view({"get": "list"})
_detail = RepositoryViewSet.as_view(
    {"get": "retrieve", "put": "edit", "patch": "edit", "delete": "destroy"}
)
_branches = RepositoryViewSet.as_view({"get": "branches"})

v1: list[URLPattern] = [
    path("repositories", _list),
    path("repositories/<uuid:pk>", _detail),
    path("repositories/<uuid:pk>/branches", _branches),
]
"""Mounted under /api/v1/ (plain dialect)."""

envelope: list[URLPattern] = [
    path("repositories", _only_list),
    path("repositories/<uuid:pk>/branches", _branches),
]
"""Mounted under /api/ (envelope dialect)."""
