"""Where files are kept, as an entry of Django's STORAGES; settings.py is the only caller."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


def folder_of(address: str, default: Path) -> Path:
    """Return the folder that an address names (``file:///folder``), or the default without one."""
    if not address:
        return default
    parts = urlsplit(address)
    if parts.scheme != "file" or parts.netloc or len(parts.path) < 2:
        raise ImproperlyConfigured(f"{address!r} is no address such as file:///srv/shared/runs")
    return Path(unquote(parts.path))


def in_folder(folder: Path) -> dict[str, Any]:
    """Return a storage whose files their owner and its group may read, and nobody else."""
    options = {"location": folder, "file_permissions_mode": 0o640}
    options |= {"directory_permissions_mode": 0o750}
    return {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
