"""Pages of this app."""

from __future__ import annotations

from django.urls import URLPattern, path

from billing import views

app_name = "billing"
urlpatterns: list[URLPattern] = [
    path("billing/", views.show_ledger, name="ledger"),
]
