"""Every URL prefix on one screen."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path

from accounts.api import urls as accounts_api
from accounts.views import sign_in_to_admin
from aimodels.api import urls as aimodels_api
from asynccoder.api import document, errors, health, metrics, status
from billing.api import urls as billing_api
from repositories.api import urls as repositories_api
from tasks.api import urls as tasks_api

APIS = [accounts_api, repositories_api, aimodels_api, billing_api, tasks_api]

urlpatterns: list[URLPattern | URLResolver] = [
    path("health", health.Health.as_view()),
    path("ready", health.Ready.as_view()),
    path("metrics", metrics.Metrics.as_view()),
    path("api/health", health.Basic.as_view()),
    path("api/health/ready", health.Ready.as_view()),
    path("api/health/live", health.Live.as_view()),
    path("api/health/status", status.Status.as_view()),
    path("api/v1/health/detailed", status.Detailed.as_view()),
    path("openapi.json", document.json_file, name="openapi-json"),
    path("openapi.yaml", document.yaml_file, name="openapi-yaml"),
    path("docs", document.pages, name="docs"),
    path("admin/login/", sign_in_to_admin),
    path("admin/", admin.site.urls),
    path("api/v1/", include([route for api in APIS for route in api.v1])),
    path("api/", include([route for api in APIS for route in api.envelope])),
    path("api/", include(tasks_api.work)),
    path("", include(accounts_api.plain)),
    path("", include("accounts.urls")),
    path("", include("repositories.urls")),
    path("", include("aimodels.urls")),
    path("", include("billing.urls")),
    path("", include("tasks.urls")),
    # Last: what is left under these prefixes is answered in JSON.
    re_path(r"^(?:api|auth)(?:/.*)?$", errors.no_route),
]

handler400 = "asynccoder.api.errors.bad_request"
handler403 = "asynccoder.api.errors.permission_denied"
handler404 = "asynccoder.api.errors.not_found"
handler500 = "asynccoder.api.errors.server_error"
