"""What setups made, kept per repository so that the next run need not set up again.

In a repository's folder, NAME is a digest of the setup and the commit's tree:

``NAME/tree``    what the setup changed in the work tree, as a layer of overlays
``NAME/packed``  archives: of its home folder and, where there are no overlays, of the tree
``NAME.stamp``   its size and, as its time, when it was last asked for
``KEY.same``     the NAME to try for commits with the same lock files

A result comes here whole, by one rename, and is never changed. It is a local cache: whatever is
missing is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from repositories import git
from tasks.sandbox.ownership import remove_tree
from tasks.sandbox.watch import tree_bytes

logger = logging.getLogger(__name__)

LOCK_FILES = frozenset({
    # JavaScript
    "package.json", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml",
    "pnpm-workspace.yaml", "bun.lock", "bun.lockb", "deno.json", "deno.lock", ".npmrc", ".yarnrc",
    ".yarnrc.yml", ".nvmrc", ".node-version",
    # Python
    "pyproject.toml", "setup.py", "setup.cfg", "uv.lock", "poetry.lock", "pdm.lock", "pylock.toml",
    "Pipfile", "Pipfile.lock", "environment.yml", "environment.yaml", "conda-lock.yml",
    "pixi.lock", "tox.ini", "noxfile.py", ".python-version",
    # Go, Rust, Ruby, PHP, Java, .NET, Elixir, Dart, Swift
    "go.mod", "go.sum", "go.work", "go.work.sum", "Cargo.toml", "Cargo.lock", "rust-toolchain",
    "rust-toolchain.toml", "Gemfile", "Gemfile.lock", ".ruby-version", "composer.json",
    "composer.lock", "pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle",
    "settings.gradle.kts", "gradle.lockfile", "gradle.properties", "packages.lock.json",
    "Directory.Packages.props", "global.json", "mix.exs", "mix.lock", "pubspec.yaml",
    "pubspec.lock", "Package.swift", "Package.resolved",
    # Any: what runs the commands, and what git ignores of their results
    "Makefile", "makefile", "GNUmakefile", "justfile", "Justfile", "Taskfile.yml", "CMakeLists.txt",
    ".tool-versions", "mise.toml", ".gitmodules", ".gitignore", ".gitattributes",
})  # fmt: skip
LOCK_PATTERN = re.compile(r"(requirements|constraints).*\.(txt|in)|.*\.(gemspec|csproj|cabal)")
MOST_ENTRIES = 200_000
IDLE_SECONDS = 3 * 3600
"""How long a result must have gone unasked before it may be removed: longer than any run."""
LOCK_SECONDS = 30.0
FORMAT = "1"
"""Changes when results that are kept must not be used any more."""


@dataclass(frozen=True, slots=True)
class Key:
    """Under what names a commit's result is kept; ``shared`` is empty without any lock file."""

    own: str
    shared: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept result. Where it is not ``is_own``, another commit's tree was set up."""

    path: Path
    is_own: bool
    is_new: bool = False

    @property
    def tree(self) -> Path:
        return self.path / "tree"

    @property
    def packed(self) -> Path:
        return self.path / "packed"


def key_of(mirror: Path, commit: str, *, command: str, recipe: Sequence[str]) -> Key:
    """Return the key of a commit's setup; ``recipe`` is what else the result depends on."""
    recipe = [FORMAT, command, *recipe, *_system()]
    entries = [
        (entry.path, entry.kind, entry.is_executable, entry.name)
        for entry in git.list_tree(mirror, commit, max_entries=MOST_ENTRIES)
    ]
    named = _named_in(command)
    locks = [entry for entry in entries if is_lock_file(entry[0]) or _is_below(entry[0], named)]
    has_locks = any(not entry[0].rpartition("/")[2].startswith(".git") for entry in locks)
    return Key(_digest(recipe, entries), _digest(recipe, locks) if has_locks else "")


def is_lock_file(path: str) -> bool:
    """Tell whether a file's content may decide what a setup makes, going by its name."""
    name = path.rpartition("/")[2]
    return name in LOCK_FILES or LOCK_PATTERN.fullmatch(name) is not None


def _named_in(command: str) -> list[str]:
    words = re.split(r"[^\w./+@-]+", command)
    return [word.removeprefix("./").rstrip("/") for word in words]


def _is_below(path: str, named: Iterable[str]) -> bool:
    """Tell whether the command names a file (a script, say), or a folder that it is in."""
    return any(path == name or (name and path.startswith(f"{name}/")) for name in named)


def _system() -> list[str]:
    """Return what tells one machine's tools from another's, or from its own after an update."""
    folders = [Path(name) for name in ("/usr/bin", "/usr/local/bin", "/usr/lib")]
    folders += [Path(sys.prefix) / "bin", Path(sys.base_prefix) / "bin"]
    times = [str(folder.stat().st_mtime_ns) for folder in folders if folder.is_dir()]
    return [sys.version, sys.prefix, platform.machine(), platform.release(), *times]


def _digest(*parts: object) -> str:
    # Paths of no text come with replacement characters; their content's name tells them apart.
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()


def find(folder: Path, key: Key) -> Iterator[Kept]:
    """Yield the results to try, the commit's own one first; none goes away while a run lasts."""
    if _ask_for(folder / key.own):
        yield Kept(folder / key.own, is_own=True)
    name = _shared_name(folder, key)
    if name and name != key.own and _ask_for(folder / name):
        yield Kept(folder / name, is_own=False)


def _shared_name(folder: Path, key: Key) -> str:
    try:
        return (folder / f"{key.shared}.same").read_text() if key.shared else ""
    except FileNotFoundError:
        return ""


def _ask_for(path: Path) -> bool:
    if not path.is_dir():
        return False
    with _locked(path.parent):
        if path.is_dir():
            _stamp(path).touch()
            return True
    return False


def keep(folder: Path, key: Key, made: Path) -> Kept:
    """Keep a whole result, which moves away from ``made``; of two made at once, the first stays."""
    path = folder / key.own
    size = tree_bytes(made, stop_at=2**62)[0]
    with _locked(folder):
        if path.is_dir():
            _stamp(path).touch()
        else:
            _stamp(path).write_text(str(size))
            made.rename(path)
        if key.shared:
            # Always the same name: what a killed run has left of it is overwritten.
            new = folder / ".same.new"
            new.write_text(key.own)
            new.rename(folder / f"{key.shared}.same")
    return Kept(path, is_own=True, is_new=True)


def prune(folder: Path, *, keep_bytes: int, idle_seconds: float = IDLE_SECONDS) -> list[str]:
    """Remove the results that were not asked for longest until ``keep_bytes`` are left.

    One that was asked for within ``idle_seconds`` stays: a run may have it mounted. Returns the
    names of those removed.
    """
    removed, kept = [], 0
    with _locked(folder):
        stamps = {stamp: stamp.stat().st_mtime for stamp in folder.glob("*.stamp")}
        for stamp in sorted(stamps, key=stamps.__getitem__, reverse=True):
            kept += int(stamp.read_text() or 0)
            if kept > keep_bytes and time.time() - stamps[stamp] >= idle_seconds:
                _remove(folder / stamp.stem)
                removed.append(stamp.stem)
        for shared in folder.glob("*.same"):
            if not (folder / shared.read_text()).is_dir():
                shared.unlink()
    for grave in folder.glob(".grave-*"):
        _bury(grave)
    return removed


def _remove(path: Path) -> None:
    if path.exists():
        path.rename(path.with_name(f".grave-{uuid.uuid4().hex}"))
    _stamp(path).unlink()


def _bury(grave: Path) -> None:
    try:
        remove_tree(grave)
    except OSError as error:
        # The next run tries again; until then it only takes room.
        logger.warning("what a setup made could not be removed: %s", error)


def _stamp(path: Path) -> Path:
    return path.with_name(f"{path.name}.stamp")


def _locked(folder: Path) -> AbstractContextManager[None]:
    return git.locked(folder / "all", seconds=LOCK_SECONDS)
