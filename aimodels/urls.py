"""Pages of this app."""

from __future__ import annotations

from django.urls import URLPattern, path

from aimodels import views

app_name = "aimodels"
urlpatterns: list[URLPattern] = [
    path("models/", views.index, name="list"),
    path("models/keys/<uuid:key_id>/remove/", views.remove_key, name="remove-key"),
]
