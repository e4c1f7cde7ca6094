"""Base trees: one tree per commit that sandboxes lay their overlay on, never changed once made.

The tree is written on the host by a git that knows no filter, hook or submodule, from objects
alone, into a folder that no sandbox can write. It is read only inside sandboxes: symbolic links
in it are real, so nothing on the host may follow a path in it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repositories.git.command import Bounds, Call, git, run
from repositories.git.errors import GitFailed, OutputTooLarge, RepositoryTooLarge
from repositories.git.mirror import checked, locked
from repositories.git.store import borrowed_from

BUILD_SECONDS = 300
LONG_AGO = 946_684_800
"""The year 2000, for files of a commit that claims to be from the future."""
IDLE_SECONDS = 3 * 3600
"""How long a base must have gone unasked before it may be removed: longer than any run."""

CONFIG = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = false
	logallrefupdates = true
	checkStat = minimal
	trustctime = false
[gc]
	auto = 0
[user]
	name = Async Coder
	email = agent@asynccoder.invalid
[advice]
	detachedHead = false
"""
EXCLUDED = """\
__pycache__/
*.py[co]
.pytest_cache/
.mypy_cache/
.ruff_cache/
.hypothesis/
.tox/
.nox/
.coverage
.coverage.*
htmlcov/
*.egg-info/
node_modules/
.venv/
.DS_Store
"""
BRANCH = "refs/heads/work"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeLimits:
    """What a tree may hold at most; sizes in bytes."""

    files: int = 200_000
    bytes: int = 2 * 1024**3
    depth: int = 100


def build_base(
    mirror: Path,
    commit: str,
    bases: Path,
    *,
    owner: tuple[int, int],
    limits: TreeLimits | None = None,
) -> Path:
    """Return the folder of a commit's tree, making it when it is not there.

    1. One builder per commit, by a lock; the others wait and find it made.
    2. The tree is built under another name and renamed when whole.
    3. Its folders and files belong to ``owner`` (user id, group id).
    Raises RepositoryTooLarge, GitFailed.
    """
    base = _place(mirror, checked(commit), bases)
    with locked(base, seconds=BUILD_SECONDS):
        if not base.is_dir():
            source = _holder(mirror, commit).path
            check_tree(source, commit, limits or TreeLimits())
            _build(source, commit, base, owner)
        os.utime(_stamp(base))
    return base


def _place(repository: Path, commit: str, bases: Path) -> Path:
    """Return where a commit's base is, or goes: one that all tasks may see has no other name."""
    shared = bases / commit
    # It was looked for when the base was made, and nothing leaves a mirror.
    if shared.is_dir():
        return shared
    source = _holder(repository, commit)
    return shared if source.is_shared else bases / f"{commit}-{source.path.parent.name}"


@dataclass(frozen=True, slots=True)
class Source:
    """The repository that holds a commit itself; ``is_shared`` where all tasks can see it."""

    path: Path
    is_shared: bool


def _holder(repository: Path, commit: str) -> Source:
    """Find where a commit lies: in the mirror that a store borrows from, else in the store.

    A base must borrow from what every sandbox that uses it sees, and a store is one task's own.
    """
    chain = borrowed_from(repository)
    for path in reversed(chain):
        if run(Call(args=["cat-file", "-e", f"{commit}^{{commit}}"], git_dir=path)).exit_code == 0:
            return Source(path, is_shared=path == chain[-1])
    raise GitFailed("The commit is not there.")


def check_tree(repository: Path, commit: str, limits: TreeLimits) -> None:
    """Refuse a tree that would fill the disk (a few objects can name a billion files)."""
    try:
        listing = git(
            "ls-tree", "-r", "-l", "-z", commit, git_dir=repository,
            bounds=Bounds(seconds=60, cpu=60, memory=2 * 1024**3, output=limits.files * 250),
        )  # fmt: skip
    except OutputTooLarge:
        raise RepositoryTooLarge("The repository's tree has too many files.") from None
    entries = listing.split(b"\0")[:-1]
    if len(entries) > limits.files:
        raise RepositoryTooLarge("The repository's tree has too many files.")
    total = 0
    for entry in entries:
        facts, path = entry.split(b"\t", 1)
        total += int(size) if (size := facts.split()[3]) != b"-" else 0
        if path.count(b"/") > limits.depth:
            raise RepositoryTooLarge("The repository's tree is nested too deeply.")
    if total > limits.bytes:
        raise RepositoryTooLarge("The repository's tree is too large.")


def _build(mirror: Path, commit: str, base: Path, owner: tuple[int, int]) -> None:
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=base.parent))
    try:
        building.chmod(0o755)
        _check_out(mirror, commit, building)
        size = _settle(building, owner, mtime=_commit_time(mirror, commit))
        _refresh_index(building, owner)
        _stamp(base).write_text(str(size))
        building.rename(base)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _check_out(mirror: Path, commit: str, tree: Path) -> None:
    git("init", "--quiet", "--template=", "--", str(tree), git_dir=None)
    private = tree / ".git"
    (private / "config").write_text(CONFIG)
    (private / "info").mkdir(exist_ok=True)
    (private / "info" / "exclude").write_text(EXCLUDED)
    (private / "objects" / "info").mkdir(exist_ok=True)
    borrowed = "".join(f"{path / 'objects'}\n" for path in borrowed_from(mirror))
    (private / "objects" / "info" / "alternates").write_text(borrowed)
    git("update-ref", BRANCH, commit, git_dir=private)
    git("symbolic-ref", "HEAD", BRANCH, git_dir=private)
    _in_tree(tree, "read-tree", "--reset", "-u", commit)


def _in_tree(tree: Path, *args: str) -> None:
    """Run git in a tree of our own making, which no sandbox has seen."""
    settings = ("core.symlinks=true", "core.checkStat=minimal", "core.trustctime=false")
    flags = [part for setting in settings for part in ("-c", setting)]
    git(*flags, f"--work-tree={tree}", *args, git_dir=tree / ".git",
        bounds=Bounds(seconds=BUILD_SECONDS))  # fmt: skip


def _commit_time(mirror: Path, commit: str) -> int:
    """Return the time that every file of a commit's tree is given."""
    stamp = git("show", "-s", "--format=%ct", commit, git_dir=mirror)
    # A moment before the commit, so that even a new one is older than the index.
    moment = max(int(stamp) - 2, 0)
    return moment if moment < time.time() - 1 else LONG_AGO


def _settle(tree: Path, owner: tuple[int, int], *, mtime: int) -> int:
    """Give every file its owner and one time in the past; return the bytes of them all.

    Equal times make a base that is built again fit an index that was made on the first one, and
    leave no file "racily clean", which git would read again at each status.
    """
    total = 0
    for path in _everything(tree):
        total += path.stat(follow_symlinks=False).st_blocks * 512
        _give(path, owner)
        os.utime(path, (mtime, mtime), follow_symlinks=False)
    return total


def _everything(tree: Path) -> Iterator[Path]:
    yield tree
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            yield Path(folder, name)


def _give(path: Path, owner: tuple[int, int]) -> None:
    facts = path.stat(follow_symlinks=False)
    if (facts.st_uid, facts.st_gid) != owner:
        os.chown(path, *owner, follow_symlinks=False)


def _refresh_index(tree: Path, owner: tuple[int, int]) -> None:
    _in_tree(tree, "update-index", "-q", "--refresh")
    _give(tree / ".git" / "index", owner)


def _stamp(base: Path) -> Path:
    """The file beside a base that holds its size and, as its time, when it was last asked for."""
    return base.with_name(f"{base.name}.stamp")


def prune_bases(bases: Path, *, keep_bytes: int, idle_seconds: float = IDLE_SECONDS) -> list[str]:
    """Remove the bases that were not asked for longest until ``keep_bytes`` are left.

    One that was asked for within ``idle_seconds`` stays: a run may have it mounted. Returns the
    commits of those removed.
    """
    _remove_abandoned(bases, idle_seconds)
    stamps = sorted(bases.glob("*.stamp"), key=lambda stamp: stamp.stat().st_mtime, reverse=True)
    removed, kept = [], 0
    for stamp in stamps:
        kept += int(stamp.read_text() or 0)
        is_idle = time.time() - stamp.stat().st_mtime >= idle_seconds
        if kept > keep_bytes and is_idle and _remove(bases / stamp.stem):
            removed.append(stamp.stem)
    return removed


def _remove_abandoned(bases: Path, idle_seconds: float) -> None:
    for folder in bases.glob(".building-*"):
        if time.time() - folder.stat().st_mtime >= idle_seconds:
            shutil.rmtree(folder, ignore_errors=True)


def _remove(base: Path) -> bool:
    """Remove a base unless somebody builds or asks for it now."""
    try:
        with locked(base, seconds=0):
            grave = base.with_name(f".building-{base.name}")
            if base.exists():
                base.rename(grave)
            _stamp(base).unlink(missing_ok=True)
            shutil.rmtree(grave, ignore_errors=True)
    except GitFailed:
        return False
    return True
