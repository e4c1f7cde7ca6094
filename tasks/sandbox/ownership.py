"""Whose files a sandbox works on: the worker's own user's, or, under root, an unprivileged one's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

UNPRIVILEGED = 65534


def is_root() -> bool:
    return os.geteuid() == 0


def sandbox_ids() -> tuple[int, int]:
    """Return the (uid, gid) that must own a workspace's base, upper and work folders."""
    if is_root():
        return UNPRIVILEGED, UNPRIVILEGED
    return os.geteuid(), os.getegid()


def prepare_owned(path: Path) -> Path:
    """Make a folder (and its parents) that the sandbox's user and group own; return it.

    An overlay needs both: a foreign user makes writes fail as "Permission denied", a foreign
    group as "Value too large for defined data type".
    """
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    if is_root():
        os.chown(path, *sandbox_ids(), follow_symlinks=False)
    return path


def give_tree(path: Path) -> None:
    """Make the sandbox's user the owner of a tree that no sandbox has written yet."""
    if not is_root():
        return
    for folder, folders, files in os.walk(path):
        for name in (".", *folders, *files):
            os.chown(os.path.join(folder, name), *sandbox_ids(), follow_symlinks=False)  # noqa: PTH118 - as os.walk gives it


def remove_tree(path: Path) -> None:
    """Delete a tree that a sandbox wrote: unreadable, very deep or full of links."""
    if path.is_symlink():
        # Else ``chmod`` would follow it: only links within a tree are left alone.
        path.unlink()
        return
    # An overlay leaves a work folder without any permission; a tenant may leave more of them.
    # Both programs go through descriptors and follow no link, and know no recursion limit.
    if not is_root():
        _run_quietly("chmod", "-R", "u+rwX", "--", str(path))
    _run_quietly("rm", "-rf", "--one-file-system", "--", str(path))
    if os.path.lexists(path):
        raise OSError(f"{path} could not be removed")


def _run_quietly(*argv: str) -> None:
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
