"""Pages of this app."""

from __future__ import annotations

from django.urls import URLPattern, path

from repositories import views

app_name = "repositories"
urlpatterns: list[URLPattern] = [
    path("repositories/", views.index, name="list"),
    path("repositories/add/", views.add, name="add"),
    path("repositories/sync/", views.sync, name="sync"),
    path("repositories/<uuid:repository_id>/settings/", views.change, name="settings"),
    path("repositories/<uuid:repository_id>/remove/", views.remove, name="remove"),
]
