"""Builders for tests of the analysers and the built-in engine: trees of files in a sandbox."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from repositories.git.command import git
from tasks.agent.ports import Assignment, Review
from tasks.sample.install import install_sample
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import sandbox_ids
from tasks.tests.local_sandbox import LocalSandbox
from tasks.tests.sandboxes import make_place

Files = Mapping[str, str | bytes]


def as_bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def real_sandbox(folder: Path, files: Files, *, read_only: bool = False) -> Bubblewrap:
    """Return a real sandbox, not yet entered, on these files."""
    place = make_place(folder)
    for name, content in files.items():
        _write(place.workspace.base, name, as_bytes(content))
    return place.sandbox(read_only=read_only)


def _write(base: Path, name: str, content: bytes) -> None:
    file = base / name
    for parent in reversed(file.parents):
        if parent.is_relative_to(base) and not parent.exists():
            parent.mkdir()
            os.chown(parent, *sandbox_ids())
    file.write_bytes(content)
    os.chown(file, *sandbox_ids())


def local_sandbox(folder: Path, files: Files, *, missing: tuple[str, ...] = ()) -> LocalSandbox:
    """Return a sandbox that is none, in a folder of its own, on these files."""
    root = folder / "tree"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(as_bytes(content))
    root.mkdir(exist_ok=True)
    return LocalSandbox(root, missing=missing)


def sample_files(folder: Path, branch: str = "main") -> dict[str, bytes]:
    """Return the files of a branch of the sample repository."""
    repository = install_sample(folder / "samples")
    listed = git("ls-tree", "-r", "-z", "--name-only", branch, git_dir=repository).decode()
    names = [name for name in listed.split("\0") if name]
    return {name: git("show", f"{branch}:{name}", git_dir=repository) for name in names}


def assign(kind: str, prompt: str = "", **values: object) -> Assignment:
    return Assignment("1", kind, prompt, "alba/ledgerly", "main", **values)  # type: ignore[arg-type]  # any field by keyword


def review_of(before: Files, after: Files) -> Review:
    """Return the review of a change, with every line of ``after`` that ``before`` lacks."""
    changed = {}
    for path, content in after.items():
        old = as_bytes(before.get(path, b"")).splitlines()
        lines = as_bytes(content).splitlines()
        numbers = frozenset(i for i, line in enumerate(lines, 1) if line not in old)
        if numbers:
            changed[path] = numbers
    return Review("base", "head", "", changed)
