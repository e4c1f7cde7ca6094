"""API routes of this app, written without a trailing slash (it is optional everywhere)."""

from __future__ import annotations

from django.urls import URLPattern, path

from accounts.api import github, views

_shared: list[URLPattern] = [
    path("auth/register", views.Register.as_view()),
    path("auth/login", views.Login.as_view()),
    path("auth/refresh", views.Refresh.as_view()),
    path("auth/logout", views.Logout.as_view()),
    path("users/me", views.Profile.as_view()),
]

v1: list[URLPattern] = [
    *_shared,
    path("users/profile", views.Profile.as_view()),
    path("users/clerk", views.Clerk.as_view()),
    path("users/github", github.Connection.as_view()),
    path("access-keys", views.AccessKeys.as_view({"get": "list", "post": "create"})),
    path("access-keys/<uuid:key_id>", views.AccessKeys.as_view({"delete": "revoke"})),
]
"""Mounted under /api/v1/ (plain dialect)."""

envelope: list[URLPattern] = [
    *_shared,
    path("auth/github/connect", github.Connect.as_view()),
]
"""Mounted under /api/ (envelope dialect)."""

plain: list[URLPattern] = [path("auth/login", views.Login.as_view())]
"""Mounted at the root (seed 2)."""
