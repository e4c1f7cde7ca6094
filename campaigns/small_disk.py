"""A disk that can really be full: a small tmpfs, which only root may mount."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MIB = 1024**2


class NoDisk(Exception):
    """No small disk can be mounted here."""


@contextlib.contextmanager
def mounted(folder: Path, *, mib: int) -> Iterator[None]:
    """Mount an empty disk of so many MiB on a folder while the block lasts. Raises NoDisk."""
    options = f"size={mib}m,mode=0755"
    command = ["mount", "-t", "tmpfs", "-o", options, "asynccoder-campaign", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        raise NoDisk("only root may mount a small disk")
    try:
        yield
    finally:
        # Lazily: what a killed process still holds must not keep the campaign from its end.
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill the disk of a folder to the last byte; the room comes back with the end of the block."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(MIB))
        _fill_rest(ballast)
        yield
    finally:
        ballast.unlink(missing_ok=True)


def _fill_rest(ballast: Path) -> None:
    with ballast.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
