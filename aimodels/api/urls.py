"""API routes of this app, written without a trailing slash (it is optional everywhere)."""

from __future__ import annotations

from django.urls import URLPattern, path

from aimodels.api.views import (
    KeyProviderViewSet,
    KeyUsageViewSet,
    ModelViewSet,
    ProviderKeyViewSet,
)

v1: list[URLPattern] = [
    path("models", ModelViewSet.as_view({"get": "list", "post": "create"}), name="v1-models"),
    path("models/test", ModelViewSet.as_view({"post": "test"}), name="v1-model-test"),
    path(
        "models/<uuid:pk>",
        ModelViewSet.as_view({"get": "retrieve", "put": "update", "delete": "destroy"}),
        name="v1-model",
    ),
    path(
        "api-keys",
        ProviderKeyViewSet.as_view({"get": "list", "post": "create"}),
        name="v1-api-keys",
    ),
    path(
        "api-keys/providers",
        KeyProviderViewSet.as_view({"get": "list"}),
        name="v1-api-key-providers",
    ),
    path("api-keys/usage", KeyUsageViewSet.as_view({"get": "list"}), name="v1-api-key-usage"),
    path(
        "api-keys/<uuid:pk>",
        ProviderKeyViewSet.as_view({"get": "retrieve", "put": "update", "delete": "destroy"}),
        name="v1-api-key",
    ),
]
"""Mounted under /api/v1/ (plain dialect)."""

envelope: list[URLPattern] = [
    path("ai-models", ModelViewSet.as_view({"get": "list"}), name="ai-models"),
]
"""Mounted under /api/ (envelope dialect)."""
