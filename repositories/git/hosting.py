"""What leaves a repository that the platform hosts: a bundle of all its branches, or one tree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from repositories.git.command import Bounds, git
from repositories.git.errors import GitFailed
from repositories.git.mirror import checked, is_valid_branch
from repositories.git.store import create_store

SECONDS = 300
CPU_SECONDS = 300
MEMORY = 2 * 1024**3


def write_repository(
    objects: Path, branches: Mapping[str, str], path: Path, *, head: str, max_bytes: int
) -> None:
    """Write a bundle to clone from: these branches (name to commit), ``head`` the default one.

    ``objects`` is a bare repository that has, or borrows, all their commits; it is not changed.
    Raises GitFailed.
    """
    if not all(is_valid_branch(name) for name in branches):
        raise GitFailed("This is no name of a branch.")
    folder = Path(tempfile.mkdtemp(prefix=".bundle-", dir=path.parent))
    try:
        bare = folder / "bare.git"
        create_store(bare, objects)
        lines = "".join(f"create refs/heads/{n} {checked(c)}\n" for n, c in branches.items())
        git("update-ref", "--stdin", git_dir=bare, stdin=lines.encode())
        git("symbolic-ref", "HEAD", f"refs/heads/{head}", git_dir=bare)
        git("bundle", "create", "--quiet", str(path), "HEAD", "--branches", git_dir=bare,
            bounds=Bounds(seconds=SECONDS, cpu=CPU_SECONDS, file=max_bytes))  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_zip(repository: Path, commit: str, path: Path, *, prefix: str, max_bytes: int) -> None:
    """Write the files of a commit as a zip, under the folder ``prefix``. Raises GitFailed."""
    bounds = Bounds(seconds=SECONDS, cpu=CPU_SECONDS, file=max_bytes, memory=MEMORY)
    git("archive", "--format=zip", f"--output={path}", f"--prefix={prefix}/", checked(commit),
        git_dir=repository, bounds=bounds)  # fmt: skip


def is_ancestor(repository: Path, commit: str, of: str) -> bool:
    """Tell whether a commit is, or lies behind, another one; both are in the repository."""
    listed = git(
        "rev-list", "--max-count=1", checked(commit), f"^{checked(of)}", git_dir=repository
    )
    return not listed.strip()
