"""How a fetch is watched: what its folder takes on disk, and how far git says that it is."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path


def disk_use(path: Path) -> int:
    """Return the bytes that a folder takes on disk; files that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 - hot loop
            except FileNotFoundError:
                continue
    return total


class SizeWatch:
    """Says when a folder has grown past its limit; looks once a second."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.next_look = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self.next_look:
            return False
        self.next_look = now + 1
        return disk_use(self.path) > self.max_bytes


def progress_reader(on_progress: Callable[[str], None] | None) -> Callable[[bytes], None] | None:
    """Return a reader of git's progress lines that tells each new percentage."""
    if on_progress is None:
        return None
    told = ""

    def read(piece: bytes) -> None:
        nonlocal told
        found = re.findall(rb"(Receiving objects|Resolving deltas): +(\d+)%", piece)
        text = f"{found[-1][0].decode()}: {found[-1][1].decode()}%" if found else told
        if text != told:
            told = text
            on_progress(text)

    return read
