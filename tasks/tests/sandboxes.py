"""Builders for tests that need a real sandbox."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.sandbox.base import Limits, Workspace
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


def make_place(folder: Path, files: dict[str, bytes] | None = None) -> Place:
    """Lay out an overlay workspace whose base holds ``files``."""
    base = prepare_owned(folder / "base")
    for name, content in (files or {}).items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.chown(path, *sandbox_ids())
    run = prepare_owned(folder / "run")
    upper, work = prepare_owned(run / "upper"), prepare_owned(run / "work")
    return Place(Workspace(base=base, upper=upper, work=work))
