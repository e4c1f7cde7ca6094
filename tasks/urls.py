"""Pages of this app."""

from __future__ import annotations

from django.urls import URLPattern, path

from tasks import downloads, views

app_name = "tasks"
urlpatterns: list[URLPattern] = [
    path("", views.home, name="home"),
    path("tasks/", views.task_list, name="list"),
    path("tasks/new/", views.new, name="new"),
    path("tasks/<uuid:task_id>/", views.detail, name="detail"),
    path("tasks/<uuid:task_id>/line/", views.line, name="line"),
    path("tasks/<uuid:task_id>/rows/", views.rows, name="rows"),
    path("tasks/<uuid:task_id>/pane/", views.pane, name="pane"),
    path("tasks/<uuid:task_id>/steps/<int:ordinal>/", views.step, name="step"),
    path("tasks/<uuid:task_id>/files/<int:number>/", views.file, name="file"),
    path("tasks/<uuid:task_id>/cancel/", views.cancel, name="cancel"),
    path("tasks/<uuid:task_id>/patch/", downloads.patch, name="patch"),
    path("tasks/<uuid:task_id>/bundle/", downloads.bundle, name="bundle"),
    path("tasks/<uuid:task_id>/steps/<int:ordinal>/raw/", downloads.step_output, name="raw"),
]
