"""What several attempts share: looking through /proc, opening, making files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Target = dict[str, Any]
Attempt = Callable[[Target], str]


def open_now() -> dict[str, str]:
    """Return what every descriptor leads to, but the one that lists them."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[path.name] = str(path.readlink())
        except OSError:
            continue
    return found


INHERITED = open_now()


def pids() -> Iterator[Path]:
    return (path for path in Path("/proc").iterdir() if path.name.isdigit())


def holds(path: Path, needle: str, size: int = 65536) -> bool:
    """Tell whether a regular file can be read and its beginning holds the needle."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return needle.encode() in file.read(size)
    except OSError:
        return False


def opens(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def first_open(paths: list[str], flags: int) -> str:
    return next((path for path in paths if opens(path, flags)), "")


def touched(paths: list[str]) -> str:
    """Return the first folder in which a file can be made; it is removed again."""
    for folder in paths:
        path = Path(folder, f"escape-{os.getpid()}")
        try:
            path.touch()
        except OSError:
            continue
        path.unlink()
        return folder
    return ""
