"""Builders for tests that need a real sandbox."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.sandbox.base import Command, Limits, Workspace
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import prepare_owned, sandbox_ids
from tasks.sandbox.toolchain import Toolchain


@dataclass(frozen=True, slots=True)
class Place:
    """A workspace on disk and how to make sandboxes on it."""

    workspace: Workspace

    def sandbox(self, limits: Limits | None = None, *, read_only: bool = False) -> Bubblewrap:
        workspace = replace(self.workspace, read_only=read_only)
        return Bubblewrap(workspace, limits, toolchain=Toolchain.of_platform())


def make_place(
    folder: Path,
    files: dict[str, bytes] | None = None,
    *,
    overlay: bool = True,
    read_only_paths: tuple[Path, ...] = (),
) -> Place:
    """Lay out a workspace whose base holds ``files``."""
    base = prepare_owned(folder / "base")
    for name, content in (files or {}).items():
        (base / name).write_bytes(content)
        os.chown(base / name, *sandbox_ids())
    if not overlay:
        return Place(Workspace(base=base, read_only_paths=read_only_paths))
    run = prepare_owned(folder / "run")
    upper, work = prepare_owned(run / "upper"), prepare_owned(run / "work")
    return Place(Workspace(base=base, upper=upper, work=work, read_only_paths=read_only_paths))


def shell(script: str, *, seconds: float = 30.0) -> Command:
    return Command(["sh", "-c", script], seconds=seconds)


def python(source: str, *arguments: str, seconds: float = 30.0) -> Command:
    return Command(["python3", "-I", "-S", "-c", source, *arguments], seconds=seconds)


def eventually(condition: Callable[[], bool], *, seconds: float = 60.0) -> bool:
    """Wait for a condition, no longer than ``seconds``; return whether it came."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()
