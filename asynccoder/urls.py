"""Every URL prefix on one screen."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path

from accounts.api import urls as accounts_api
from aimodels.api import urls as aimodels_api
from asynccoder.api import errors, health
from billing.api import urls as billing_api
from repositories.api import urls as repositories_api
from tasks.api import urls as tasks_api

APIS = [accounts_api, repositories_api, aimodels_api, billing_api, tasks_api]

urlpatterns: list[URLPattern | URLResolver] = [
    path("health", health.health),
    path("ready", health.ready),
    path("api/health", health.basic),
    path("api/health/ready", health.ready),
    path("api/health/live", health.live),
    path("admin/", admin.site.urls),
    path("api/v1/", include([route for api in APIS for route in api.v1])),
    path("api/", include([route for api in APIS for route in api.envelope])),
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
