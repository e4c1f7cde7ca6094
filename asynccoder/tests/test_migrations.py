"""What an update may do to tables that the version before still writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import models
from django.db.migrations import AddField, CreateModel, Migration
from django.db.migrations.loader import MigrationLoader
from django.db.models.fields import NOT_PROVIDED

from asynccoder.tests.test_house_style import APPS

LABELS = {config.label for config in apps.get_app_configs() if config.name in APPS}


def ours() -> Iterator[Migration]:
    for (label, _), migration in MigrationLoader(None).disk_migrations.items():
        if label in LABELS:
            yield migration


def added(migration: Migration) -> Iterator[tuple[str, Any]]:
    """Give the columns that the migration adds to tables which were there before it."""
    new = {each.name_lower for each in migration.operations if isinstance(each, CreateModel)}
    for each in migration.operations:
        if isinstance(each, AddField) and each.model_name_lower not in new:
            yield f"{migration} {each.model_name}.{each.name}", each.field


def refuses_old_inserts(field: Any) -> bool:
    """Tell whether an INSERT that does not name the column fails."""
    has_column = not isinstance(field, models.ManyToManyField)
    return has_column and not field.null and field.db_default is NOT_PROVIDED


def test_the_version_before_can_insert_into_every_table_that_has_new_columns() -> None:
    columns = [column for migration in ours() for column in added(migration)]
    assert len(columns) > 2
    assert [name for name, field in columns if refuses_old_inserts(field)] == []


def test_a_column_that_refuses_old_inserts_is_seen() -> None:
    assert refuses_old_inserts(models.BooleanField(default=False))
    assert not refuses_old_inserts(models.BooleanField(default=False, db_default=False))
    assert not refuses_old_inserts(models.TextField(null=True))
