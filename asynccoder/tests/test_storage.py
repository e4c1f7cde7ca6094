"""Where runs are kept: a folder by its address, closed to others."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from asynccoder.lib import storage


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("", "/var/runs"),
        ("file:///srv/shared/runs", "/srv/shared/runs"),
        ("file:///srv/a%20b", "/srv/a b"),
    ],
)
def test_an_address_names_a_folder(address: str, folder: str) -> None:
    assert storage.folder_of(address, Path("/var/runs")) == Path(folder)


@pytest.mark.parametrize("address", ["/srv/runs", "file://host/runs", "file:///", "s3://bucket/x"])
def test_another_address_is_refused(address: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="is no address such as file:///"):
        storage.folder_of(address, Path("/var/runs"))


def test_what_is_kept_is_closed_to_others(tmp_path: Path) -> None:
    made = storages.create_storage(storage.in_folder(tmp_path / "runs"))
    made.save("task/1-a.pack", ContentFile(b"x"))
    modes = [path.stat().st_mode & 0o7777 for path in sorted((tmp_path / "runs").rglob("*"))]
    assert modes == [0o750, 0o640]
    assert (tmp_path / "runs").stat().st_mode & 0o7777 == 0o750
