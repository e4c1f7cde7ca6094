"""The only way up: a lower layer asks for a name that settings.UPCALLS points at a function."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string


def call(name: str, *arguments: Any, default: Any = None) -> Any:
    """Call the function of that name; return the default where no app provides it."""
    path = settings.UPCALLS.get(name)
    if path is None:
        return default
    return import_string(path)(*arguments)
