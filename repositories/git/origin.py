"""A new repository that the platform makes of given files: the start of a task without one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from repositories.git.command import git
from repositories.git.errors import CheckpointBad, GitFailed
from repositories.git.mirror import make_bare
from repositories.git.store import PackLimits, check_path

REF = "refs/remotes/origin/main"


def is_safe_path(path: str) -> bool:
    """Tell whether a relative path can be a file of a repository everywhere."""
    try:
        check_path(path.encode(), depth=PackLimits().depth)
    except (CheckpointBad, UnicodeEncodeError):
        return False
    return bool(path) and not path.startswith("/")


def create_origin(path: Path, files: Mapping[str, bytes]) -> str:
    """Make a bare repository with one commit of these files; return the commit.

    The same files make the same commit, so that it may be made again after a crash.
    Raises GitFailed for a path that is not safe.
    """
    if not all(is_safe_path(name) for name in files):
        raise GitFailed("A file has a name that cannot be used.")
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        made = building / "origin"
        make_bare(made)
        git("fast-import", "--quiet", "--force", git_dir=made, stdin=_stream(files))
        git("symbolic-ref", "HEAD", REF, git_dir=made)
        shutil.rmtree(path, ignore_errors=True)
        made.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return git("rev-parse", "--verify", REF, git_dir=path).decode().strip()


def _stream(files: Mapping[str, bytes]) -> bytes:
    who = b"Async Coder <start@asynccoder.invalid> 1 +0000"
    message = b"Start"
    parts = [b"commit %s\n" % REF.encode(), b"author %s\ncommitter %s\n" % (who, who)]
    parts.append(b"data %d\n%s\n" % (len(message), message))
    for name, content in sorted(files.items()):
        parts.append(b"M 100644 inline %s\ndata %d\n" % (_quoted(name), len(content)))
        parts.append(content + b"\n")
    return b"".join(parts)


def _quoted(name: str) -> bytes:
    """Return the path in git's C style; control characters were refused before."""
    return b'"%s"' % name.replace("\\", "\\\\").replace('"', '\\"').encode()
