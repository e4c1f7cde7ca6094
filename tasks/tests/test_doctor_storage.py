"""What the doctor finds in the storage of runs, and in the secrets of machines that share one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage

from asynccoder.doctor import configuration, storage
from asynccoder.lib.storage import in_folder
from tasks.tests.test_doctor_command import said

SECRETS = ("SECRET_KEY", "JWT_SECRET", "FIELD_ENCRYPTION_KEYS")
Keep = Callable[[Path], None]


@pytest.fixture
def keep(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Keep:
    """Keep runs in a folder, as RUNS_STORAGE does."""

    def use(folder: Path) -> None:
        monkeypatch.setenv("RUNS_STORAGE", f"file://{folder}")
        settings.STORAGES = settings.STORAGES | {"runs": in_folder(folder)}

    return use


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount memory for the block; skip the test where this user may not."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_storage_that_takes_and_gives_is_well_and_left_empty(keep: Keep, tmp_path: Path) -> None:
    keep(tmp_path)
    assert said(storage.check_storage).startswith(f"ok {tmp_path} has ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_mounted_is_named_and_not_made(keep: Keep, tmp_path: Path) -> None:
    keep(tmp_path / "shared")
    assert said(storage.check_storage) == (
        f"FAILED {tmp_path}/shared is not there: mount what RUNS_STORAGE names, or make the folder."
    )
    assert not (tmp_path / "shared").exists()


def test_the_folder_of_one_machine_is_made_where_it_is_missing(
    keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path / "runs")
    monkeypatch.delenv("RUNS_STORAGE")
    assert said(storage.check_storage).startswith("ok ")


def test_a_folder_that_refuses_writes_is_a_failure(keep: Keep, tmp_path: Path) -> None:
    # The kernel refuses every new file there, to root as well.
    keep(Path("/proc/self"))
    assert said(storage.check_storage).startswith(
        "FAILED no checkpoint can be kept in /proc/self: "
    )


def test_a_folder_of_another_user_is_a_failure(keep: Keep, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "shut").mkdir(mode=0o500)
    keep(tmp_path / "shut")
    assert said(storage.check_storage).endswith(
        "this user may not write there: change its owner or mode."
    )


def test_a_mount_that_is_read_only_is_a_failure(keep: Keep, tmp_path: Path) -> None:
    with mounted(tmp_path / "shared", "ro"):
        keep(tmp_path / "shared")
        assert said(storage.check_storage) == (
            f"FAILED no checkpoint can be kept in {tmp_path}/shared: it is mounted read-only:"
            " mount it for writing."
        )


def test_a_full_storage_is_a_failure_and_nothing_is_left(keep: Keep, tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(mounted(tmp_path / "shared", "size=64k"))
        keep(tmp_path / "shared")
        assert said(storage.check_storage).startswith(f"warning {tmp_path}/shared has 0.0 GiB free")
        ballast = tmp_path / "shared" / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(b"x" * 10**6)
        assert said(storage.check_storage).endswith("/shared: it is full: make room.")
        assert list((tmp_path / "shared").iterdir()) == [ballast]


def test_little_room_is_a_warning(keep: Keep, tmp_path: Path, settings: Any) -> None:
    keep(tmp_path)
    settings.CHECKPOINT_BYTES = 2**60
    assert "less than 10 checkpoints of each slot may need" in said(storage.check_storage)


class Forgetful(FileSystemStorage):
    """A storage that keeps nothing of what it takes."""

    def open(self, name: str, mode: str = "rb") -> ContentFile[bytes]:
        return ContentFile(b"")


class Hoarder(FileSystemStorage):
    """A storage that removes nothing."""

    def delete(self, name: str) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("kind", "told"), [(Forgetful, "gives back something else"), (Hoarder, "does not remove")]
)
def test_a_storage_that_does_not_do_as_told_is_a_failure(
    settings: Any, tmp_path: Path, kind: type[FileSystemStorage], told: str
) -> None:
    entry = {"BACKEND": f"{__name__}.{kind.__name__}", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = settings.STORAGES | {"runs": entry}
    assert said(storage.check_storage).startswith(f"FAILED the storage of runs {told}")


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_of_one_machine_is_a_failure_where_the_storage_is_shared(
    keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    keep(tmp_path)
    for secret in SECRETS:
        monkeypatch.setenv(secret, "given")
    assert said(configuration.check_settings).startswith("ok ")
    monkeypatch.delenv(name)
    told = f"FAILED RUNS_STORAGE is shared by several machines, but {name} were made by this one"
    assert told in said(configuration.check_settings)
    assert "given" not in said(configuration.check_settings)
    monkeypatch.delenv("RUNS_STORAGE")
    assert "FAILED" not in said(configuration.check_settings)
