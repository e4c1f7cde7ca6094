"""Every table of the product's description exists, is written by it, and is of use in the admin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.test import Client

from accounts.models import User
from aimodels.models import AIModel, KeyProvider, KeyUsage, ModelUsage, ProviderConfig, ProviderKey
from asynccoder.lib.admin import ReadOnly
from asynccoder.tests.processes import ROOT
from billing.models import LedgerEntry, SubscriptionPlan, SubscriptionUsage
from repositories.models import PullRequest, Repository, RepositoryAccess, RepositoryWebhook
from tasks.models import Task, TaskAnalytics, TaskLog, TaskResult

TABLES: dict[str, type[Any]] = {
    "users": User,
    "user_repository_access": RepositoryAccess,
    "ai_models": AIModel,
    "ai_provider_configs": ProviderConfig,
    "model_usage_stats": ModelUsage,
    "repositories": Repository,
    "repository_webhooks": RepositoryWebhook,
    "pull_requests": PullRequest,
    "tasks": Task,
    "task_results": TaskResult,
    "task_logs": TaskLog,
    "task_analytics": TaskAnalytics,
    "api_keys": ProviderKey,
    "api_key_providers": KeyProvider,
    "api_key_usage_logs": KeyUsage,
    "subscription_plans": SubscriptionPlan,
    "subscription_usage": SubscriptionUsage,
    "credit_transactions": LedgerEntry,
}
BY_STAFF = {RepositoryAccess, ProviderConfig, SubscriptionPlan, KeyProvider}
"""Made in the admin or by a migration; all others are written where it happens."""
LOGS = {ModelUsage, KeyUsage, RepositoryWebhook, PullRequest, TaskLog, TaskResult, TaskAnalytics}
LOGS |= {SubscriptionUsage, LedgerEntry}


def sources() -> str:
    """Return all code of the apps that could write a row outside of tests, admin and migrations."""
    paths = [
        path
        for app in apps.get_app_configs()
        if Path(app.path).parent == ROOT
        for path in Path(app.path).rglob("*.py")
        if not {"tests", "migrations", "models"} & set(path.parts)
    ]
    return "\n".join(
        path.read_text() for path in paths if path.name not in ("admin.py", "models.py")
    )


@pytest.mark.parametrize("table", TABLES)
def test_what_a_table_records_is_written_where_it_happens(table: str) -> None:
    model = TABLES[table]
    made = re.search(
        rf"\b{model.__name__}(\(|\.objects\.\w*create\w*\()", sources()
    )  # fmt: skip
    assert made or model in BY_STAFF


@pytest.mark.parametrize("table", TABLES)
def test_staff_list_filter_and_search_it(staff: User, client: Client, table: str) -> None:
    model = TABLES[table]
    shown = site._registry[model]
    assert len(shown.list_display) > 2
    assert shown.list_filter
    assert shown.search_fields
    assert isinstance(shown, ReadOnly) == (model in LOGS | {Task})
    client.force_login(staff)
    address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    assert client.get(address, {"q": "a"}).status_code == 200
    added = client.get(f"{address}add/").status_code
    assert added == 403 if model in LOGS else added in (200, 403)
