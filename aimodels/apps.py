from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate  # noqa: TID251  # Django's own set-up hook


class AIModelsConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    name = "aimodels"
    verbose_name = "AI models"

    def ready(self) -> None:
        post_migrate.connect(add_builtin, sender=self, dispatch_uid="aimodels.add_builtin")


def add_builtin(**_: Any) -> None:
    """Give a fresh (or emptied) database the built-in engine, the model that always works."""
    from django.db import connection

    from aimodels.catalogue import load_builtin
    from aimodels.models import AIModel

    if AIModel._meta.db_table in connection.introspection.table_names():
        load_builtin()
