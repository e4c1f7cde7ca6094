"""What Django REST framework is told; settings.py is the only caller."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, Any] = {
    "DEFAULT_RENDERER_CLASSES": ["asynccoder.api.dialects.DialectRenderer"],
    "DEFAULT_PARSER_CLASSES": [
        "asynccoder.api.dialects.JSONBody",
        "asynccoder.api.dialects.FormBody",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "asynccoder.api.dialects.AlwaysJSON",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.BearerToken",
        "accounts.authentication.AccessKeyHeader",
        "accounts.authentication.SessionCookie",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "asynccoder.api.permissions.CanWork",
        "asynccoder.api.permissions.InScope",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["asynccoder.api.limits.Limits"],
    "DEFAULT_PAGINATION_CLASS": "asynccoder.api.pagination.Pages",
    "DEFAULT_SCHEMA_CLASS": "asynccoder.api.schema.Operation",
    "EXCEPTION_HANDLER": "asynccoder.api.errors.handle",
    # No answers to OPTIONS: they would describe the views' insides.
    "DEFAULT_METADATA_CLASS": None,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "TEST_REQUEST_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
