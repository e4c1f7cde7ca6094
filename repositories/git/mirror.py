"""The bare mirror of a repository: upstream branches under ``refs/remotes/origin/``.

A mirror is only ever written under a lock. Nothing is pruned from it, because task
stores and base trees borrow its objects.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from repositories.git.command import Bounds, Call, Finished, git, run
from repositories.git.errors import (
    BranchMissing,
    GitFailed,
    MirrorBusy,
    RepositoryEmpty,
    RepositoryTooLarge,
)
from repositories.git.growth import SizeWatch, progress_reader
from repositories.git.remotes import HEX, Remote, refusal
from repositories.git.upkeep import roll_up

UPSTREAM = "refs/remotes/origin/"
KEPT = "refs/asynccoder/kept/"
FETCH_CPU_SECONDS = 600
# git keeps all that a server says of itself in memory before it looks at any of it.
TRANSFER_MEMORY = 4 * 1024**3
CONTACT_SECONDS = 30
CONTACT_MEMORY = 1024**3
HEADS_BYTES = 20 * 1024**2
BARE_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
WHOLE_HISTORY = "--depth=2147483647"
"""git's own number for a depth without end."""
USUAL_DEFAULTS = ("main", "master", "trunk", "develop")
BRANCH = re.compile(r"(?!refs/|.*\.\.|.*//|.*/\.|.*\.lock(?:/|$)|.*[./]$)[A-Za-z0-9_][A-Za-z0-9_./+@#=,-]{0,199}")  # fmt: skip
DAMAGE = re.compile(r"corrupt|bad object|loose object|unable to read|missing (blob|tree|commit)|not a git repository", re.I)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of the upstream repository and the commit it names."""

    name: str
    commit: str


def is_valid_branch(name: str) -> bool:
    """Tell whether a name is one that we pass on; stricter than git."""
    if not _is_plain(name):
        return False
    call = Call(args=["check-ref-format", f"refs/heads/{name}"])
    return run(call).exit_code == 0


def _is_plain(name: str) -> bool:
    return name != "HEAD" and BRANCH.fullmatch(name) is not None


@contextmanager
def locked(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold the lock of one folder across processes. Raises MirrorBusy when it stays taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o644)
    try:
        while not _take(descriptor):
            if time.monotonic() > deadline:
                raise MirrorBusy
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """What one fetch may use, and whom it tells."""

    remote: Remote
    max_bytes: int
    deadline: float
    on_progress: Callable[[str], None] | None = None

    @property
    def seconds(self) -> float:
        return max(1.0, self.deadline - time.monotonic())


def ensure_mirror(
    path: Path,
    remote: Remote,
    *,
    max_bytes: int,
    timeout: float = 600,
    on_progress: Callable[[str], None] | None = None,
) -> list[Branch]:
    """Create the mirror, or bring it up to date; return its branches.

    One process at a time, by a lock beside the mirror; the branches are those of this fetch.
    Raises CloneFailed and its children.
    """
    deadline = time.monotonic() + timeout
    fetch = Fetch(remote=remote, max_bytes=max_bytes, deadline=deadline, on_progress=on_progress)
    with locked(path, seconds=timeout):
        return follow(path, fetch)


def follow(path: Path, fetch: Fetch) -> list[Branch]:
    """Do what ``ensure_mirror`` does with a mirror whose lock the caller holds.

    1. A new mirror is made under another name and renamed when it is whole, so a half-made one
       is never seen; what an earlier death left behind is removed.
    2. The fetch is killed when the folder passes ``max_bytes``.
    Raises CloneFailed and its children.
    """
    branches = _refresh(path, fetch) if _is_whole(path) else None
    if branches is None:
        branches = _rebuild(path, fetch)
    if not branches:
        raise RepositoryEmpty
    return branches


def _is_whole(path: Path) -> bool:
    return (path / "HEAD").is_file() and (path / "objects").is_dir()


def _refresh(path: Path, fetch: Fetch) -> list[Branch] | None:
    """Fetch into the mirror; None when it is damaged and must be made anew."""
    _remove_leftovers(path)
    try:
        branches = _fetch(path, fetch)
    except GitFailed as error:
        if DAMAGE.search(error.detail) and not _is_sound(path):
            return None
        raise
    roll_up(path, seconds=fetch.seconds)
    return branches


def _is_sound(path: Path) -> bool:
    call = Call(args=["rev-list", "--all", "-n", "200", "--objects"], git_dir=path)
    return run(call).exit_code == 0


def _rebuild(path: Path, fetch: Fetch) -> list[Branch]:
    building = path.with_name(f".{path.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    try:
        make_bare(building)
        branches = _fetch(building, fetch)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    building.rename(path)
    return branches


def make_bare(path: Path) -> None:
    """Make an empty bare repository, as ``git init --bare`` does without its template files."""
    for folder in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
        (path / folder).mkdir(parents=True)
    (path / "config").write_text(BARE_CONFIG)
    # git takes a folder for a repository once this is there.
    (path / "HEAD").write_text("ref: refs/heads/main\n")


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed fetch left; we hold the lock, so nobody else uses it."""
    for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/*/tmp_*"):
        for leftover in path.glob(pattern):
            leftover.unlink(missing_ok=True)


def fetch_commit(
    path: Path, remote: Remote, commit: str, *, max_bytes: int, timeout: float = 600
) -> None:
    """Fetch a commit that no branch leads to any more, if the remote still gives it out.

    Raises CloneFailed and its children.
    """
    deadline = time.monotonic() + timeout
    fetch = Fetch(remote=remote, max_bytes=max_bytes, deadline=deadline)
    with locked(path, seconds=timeout):
        _fetch_refs(path, fetch, f"+{checked(commit)}:{KEPT}{commit}")


def absent_commits(repository: Path, commits: Sequence[str]) -> list[str]:
    """Return which of these commits are not in a bare repository; all where there is none."""
    if not _is_whole(repository):
        return list(commits)
    names = "".join(f"{checked(commit)}\n" for commit in commits).encode()
    asked = ("cat-file", "--batch-check=%(objectname) %(objecttype)")
    found = set(git(*asked, git_dir=repository, stdin=names).decode().splitlines())
    return [commit for commit in commits if f"{commit} commit" not in found]


def _fetch(path: Path, fetch: Fetch) -> list[Branch]:
    """Make the mirror's branches those of the remote, and return them."""
    heads = remote_heads(fetch.remote, seconds=min(CONTACT_SECONDS, fetch.seconds))
    if not heads.branches:
        raise RepositoryEmpty
    branches = _known(path)
    if set(branches) != set(heads.branches):
        _fetch_refs(path, fetch, f"+refs/heads/*:{UPSTREAM}*", options=["--prune"])
        branches = list_branches(path)
    _point_head(path, replace(heads, branches=tuple(branches)))
    return branches


def _known(path: Path) -> list[Branch]:
    """Return the mirror's branches; none where they cannot be read: the fetch finds out why."""
    try:
        return list_branches(path)
    except GitFailed:
        return []


def _fetch_refs(path: Path, fetch: Fetch, wanted: str, *, options: Sequence[str] = ()) -> None:
    finished = run(
        Call(
            args=[*_fetch_arguments(fetch.remote, options), wanted],
            git_dir=path,
            env=fetch.remote.environment(),
            bounds=Bounds(
                seconds=fetch.seconds,
                cpu=FETCH_CPU_SECONDS,
                file=fetch.max_bytes,
                memory=TRANSFER_MEMORY,
            ),
            watch=SizeWatch(path, fetch.max_bytes),
            on_errors=progress_reader(fetch.on_progress),
        )
    )
    if finished.stopped == "watch" or _is_cut_by_size(finished):
        _remove_leftovers(path)
        raise RepositoryTooLarge
    if finished.stopped or finished.exit_code:
        raise refusal(fetch.remote, finished)


def _fetch_arguments(remote: Remote, options: Sequence[str]) -> list[str]:
    """Return the arguments of a fetch.

    Objects of a server that speaks only the old "dumb" protocol come in unchecked: git checks
    packs that it asked for. Such a server cannot be asked for a depth, not even the whole one.
    """
    if not remote.is_local:
        options = [*options, WHOLE_HISTORY]
    return [
        "fetch", *options, "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
        "--no-auto-maintenance", "--progress", *remote.options("upload-pack"),
        "--end-of-options", remote.url,
    ]  # fmt: skip


def _is_cut_by_size(finished: Finished) -> bool:
    """Tell whether the file size limit ended it (SIGXFSZ, in git or in its index-pack)."""
    return "File too large" in finished.errors or "signal 25" in finished.errors


@dataclass(frozen=True, slots=True)
class Heads:
    """What a remote says of itself; ``default`` is "" when it names no branch."""

    default: str
    branches: tuple[Branch, ...]


def remote_heads(remote: Remote, *, seconds: float = CONTACT_SECONDS) -> Heads:
    """Ask a remote for its branches. Raises CloneFailed, AuthenticationFailed."""
    finished = run(
        Call(
            args=["ls-remote", "--symref", *remote.options("upload-pack"),
                  "--end-of-options", remote.url, "HEAD", "refs/heads/*"],
            env=remote.environment(),
            bounds=Bounds(
                seconds=seconds, output=HEADS_BYTES, memory=CONTACT_MEMORY
            ),
        )
    )  # fmt: skip
    if finished.stopped or finished.exit_code:
        raise refusal(remote, finished)
    text = finished.output.decode("utf-8", "replace")
    default = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", text, re.MULTILINE)
    found = re.findall(r"^([0-9a-f]{40})\trefs/heads/(\S+)$", text, re.MULTILINE)
    branches = tuple(Branch(name, commit) for commit, name in found if _is_plain(name))
    return Heads(default[1] if default else "", branches)


def _point_head(path: Path, heads: Heads) -> None:
    names = [branch.name for branch in heads.branches]
    candidates = [name for name in (heads.default, *USUAL_DEFAULTS, *names) if name in names]
    if not candidates:
        return
    wanted = f"{UPSTREAM}{candidates[0]}"
    if (path / "HEAD").read_text() != f"ref: {wanted}\n":
        git("symbolic-ref", "HEAD", wanted, git_dir=path)


def list_branches(mirror: Path) -> list[Branch]:
    """Return the upstream branches by name; those with names that we never pass on are left out."""
    lines = git(
        "for-each-ref", "--format=%(objectname) %(objecttype) %(refname)", UPSTREAM, git_dir=mirror
    )
    branches = []
    for line in lines.decode("utf-8", "replace").splitlines():
        commit, kind, name = line.split(" ", 2)
        name = name.removeprefix(UPSTREAM)
        if kind == "commit" and _is_plain(name):
            branches.append(Branch(name, commit))
    return branches


def default_branch(mirror: Path) -> str:
    """Return the upstream's default branch. Raises RepositoryEmpty."""
    try:
        name = git("symbolic-ref", "HEAD", git_dir=mirror).decode().strip().removeprefix(UPSTREAM)
    except GitFailed:
        raise RepositoryEmpty from None
    if name.startswith("refs/"):
        raise RepositoryEmpty
    return name


def resolve_commit(mirror: Path, branch: str) -> str:
    """Return the commit that a branch names. Raises BranchMissing."""
    return commit_named(list_branches(mirror), branch)


def commit_named(branches: Sequence[Branch], name: str) -> str:
    """Return the commit of the branch of this name. Raises BranchMissing."""
    if not _is_plain(name):
        raise BranchMissing("This is no name of a branch.")
    found = [branch.commit for branch in branches if branch.name == name]
    if not found:
        raise BranchMissing(f"The repository has no branch {name!r}.")
    return found[0]


def merge_base(repository: Path, one: str, other: str) -> str:
    """Return the newest common ancestor of two commits. Raises GitFailed when there is none."""
    for commit in (one, other):
        checked(commit)
    try:
        return git("merge-base", one, other, git_dir=repository).decode().strip()
    except GitFailed as error:
        raise GitFailed("The two branches have no common history.", detail=error.detail) from None


def checked(commit: str) -> str:
    """Return an object name as it is. Raises GitFailed for anything but forty hex digits."""
    if not HEX.fullmatch(commit):
        raise GitFailed("This is no name of a commit.")
    return commit
