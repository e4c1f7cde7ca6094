"""A task's own trusted bare repository: what the workspace hands over is checked and kept here.

A pack from a workspace is hostile input. It is indexed under limits into a quarantine, its one
commit is compared byte for byte with the only one it may be, its changes are checked, and only
then do its objects enter the store.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from repositories.git.command import Bounds, git
from repositories.git.errors import CheckpointBad, GitFailed, OutputTooLarge
from repositories.git.mirror import checked, make_bare

INSIDE = Path(__file__).with_name("inside.sh").read_text()
CHECKPOINT_SCRIPT = INSIDE + Path(__file__).with_name("checkpoint.sh").read_text()
RESTORE_SCRIPT = INSIDE + Path(__file__).with_name("restore.sh").read_text()
MADE_SCRIPT = INSIDE + Path(__file__).with_name("made.sh").read_text()

REFS = "refs/asynccoder/"
REF_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}(?:/[a-z0-9][a-z0-9-]{0,60})?")
HEADER = re.compile(rb"(same|[0-9a-f]{40}) ([0-9a-f]{40})\n")
HEADER_BYTES = 82
GITLINK = "160000"
MODES = {"000000", "100644", "100755", "120000", GITLINK}
COMMIT = (
    "tree {tree}\nparent {parent}\n"
    "author Async Coder <checkpoint@asynccoder.invalid> 1 +0000\n"
    "committer Async Coder <checkpoint@asynccoder.invalid> 1 +0000\n\ncheckpoint\n"
)
# A few trees can name a billion files, and git lists them all in memory before it prints one.
LISTING_CPU = 10
LISTING_MEMORY = 512 * 1024**2
# A pack's index begins with its version and 256 counts; the last one is that of all names.
INDEX_START = b"\xfftOc\0\0\0\2"
INDEX_NAMES = 8 + 256 * 4
FORBIDDEN_NAMES = {b"", b".", b"..", b".git", b"git~1"}
IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLimits:
    """What one checkpoint may hold at most; sizes in bytes. The platform passes its settings."""

    pack: int = 64 * 1024**2
    objects: int = 50_000
    object: int = 100 * 1024**2
    total: int = 512 * 1024**2
    files: int = 20_000
    depth: int = 100
    cpu: int = 60
    seconds: float = 120
    memory: int = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of the work tree; ``is_new`` is False when nothing changed since the one before."""

    commit: str
    tree: str
    is_new: bool
    pack: bytes = b""
    """The checked pack as it came, for ``accept_checkpoint`` elsewhere."""


def create_store(path: Path, mirror: Path) -> None:
    """Make a task's bare repository that borrows the mirror's objects; once is enough."""
    if (path / "HEAD").is_file():
        return
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=_made(path.parent)))
    store = building / "store"
    try:
        make_bare(store)
        (store / "objects" / "info").mkdir(exist_ok=True)
        (store / "objects" / "info" / "alternates").write_text(f"{mirror / 'objects'}\n")
        store.rename(path)
    except OSError:
        if not (path / "HEAD").is_file():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def borrowed_from(repository: Path) -> tuple[Path, ...]:
    """Return a bare repository and those whose objects it borrows: what a sandbox must see."""
    found, waiting = [], [repository]
    while waiting:
        found.append(waiting.pop())
        borrowed = found[-1] / "objects" / "info" / "alternates"
        if borrowed.is_file():
            waiting += [Path(line).parent for line in borrowed.read_text().splitlines() if line]
    return tuple(found)


def keep_ref(store: Path, name: str, commit: str) -> None:
    """Name a commit under ``refs/asynccoder/`` (such as ``checkpoints/12``)."""
    if not REF_NAME.fullmatch(name):
        raise GitFailed("This is no name that a commit is kept under.")
    path = store / REFS / name
    new = path.with_name(f"{path.name}.lock")
    _made(path.parent)
    new.write_text(f"{checked(commit)}\n")
    new.replace(path)


def accept_checkpoint(
    store: Path, output: bytes, *, previous: str, limits: PackLimits | None = None
) -> Checkpoint:
    """Take over what CHECKPOINT_SCRIPT printed. Raises CheckpointBad.

    The commit's only parent is ``previous``, its tree is what the header says, its changes hold
    no repository and no path that git or a file system could misread.
    """
    limits = limits or PackLimits()
    found = HEADER.match(output[:HEADER_BYTES])
    if not found:
        raise CheckpointBad(detail=f"header {output[:60]!r}")
    name, tree = found[1].decode(), found[2].decode()
    if name == "same":
        return _unchanged(store, previous, tree, output[found.end() :])
    pack = output[found.end() :]
    _take_pack(store, pack, Claim(name, tree, previous), limits)
    return Checkpoint(name, tree, is_new=True, pack=pack)


def accept_final(store: Path, pack: bytes, *, commit: str, tree: str, parent: str) -> None:
    """Take over a final commit that was made in another store, upon a tree that is here.

    Raises CheckpointBad.
    """
    claim = Claim(checked(commit), tree, parent, is_final=True)
    _take_pack(store, pack, claim, PackLimits(objects=1))


def pack_commit(store: Path, commit: str) -> bytes:
    """Return a pack of the commit alone, as ``accept_final`` takes it."""
    name = f"{checked(commit)}\n".encode()
    return git("pack-objects", "--stdout", "-q", git_dir=store, stdin=name)


@dataclass(frozen=True, slots=True)
class Claim:
    """What the header says that the pack holds."""

    commit: str
    tree: str
    parent: str
    is_final: bool = False
    """A commit in the user's name, with a text of its own."""


def _unchanged(store: Path, previous: str, tree: str, rest: bytes) -> Checkpoint:
    if rest or tree != tree_of(store, previous):
        raise CheckpointBad(detail="the tree is not the same")
    return Checkpoint(previous, tree, is_new=False)


def tree_of(repository: Path, commit: str) -> str:
    found = git("rev-parse", "--verify", f"{checked(commit)}^{{tree}}", git_dir=repository)
    return found.decode().strip()


def _take_pack(store: Path, pack: bytes, claim: Claim, limits: PackLimits) -> None:
    _check_pack_header(pack, limits)
    try:
        with quarantine(store) as (folder, env):
            _index(store, pack, env, limits)
            _check_sizes(store, folder, env, limits)
            _check_commit(store, claim, env)
            if not claim.is_final:
                check_changes(store, claim.parent, claim.commit, env=env, limits=limits)
            _admit(folder, store)
    except CheckpointBad:
        raise
    except GitFailed as error:
        raise CheckpointBad(detail=error.detail or str(error)) from None


def _check_pack_header(pack: bytes, limits: PackLimits) -> None:
    if len(pack) > limits.pack:
        raise CheckpointBad("The changes are larger than a checkpoint may be.")
    if len(pack) < 32 or pack[:4] != b"PACK":
        raise CheckpointBad(detail="no pack")
    if struct.unpack(">I", pack[8:12])[0] > limits.objects:
        raise CheckpointBad("The changes touch more files than a checkpoint may hold.")


@contextmanager
def quarantine(store: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield a folder for new objects and the environment in which git writes there only."""
    folder = Path(tempfile.mkdtemp(prefix="incoming-", dir=store))
    try:
        (folder / "pack").mkdir()
        yield (
            folder,
            {
                "GIT_OBJECT_DIRECTORY": str(folder),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(store / "objects"),
            },
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _index(store: Path, pack: bytes, env: dict[str, str], limits: PackLimits) -> None:
    git(
        "index-pack", "--stdin", "--strict=badFilemode=error", "--fix-thin", "--threads=1",
        f"--max-input-size={limits.pack}",
        git_dir=store, stdin=pack, env=env,
        bounds=Bounds(seconds=limits.seconds, cpu=limits.cpu, file=limits.pack + limits.total,
                      memory=limits.memory),
    )  # fmt: skip


def _check_sizes(store: Path, folder: Path, env: dict[str, str], limits: PackLimits) -> None:
    names = [name for path in (folder / "pack").glob("*.idx") for name in _names(path)]
    if len(names) > limits.objects:
        raise CheckpointBad("The changes touch more files than a checkpoint may hold.")
    asked, lines = ("cat-file", "--batch-check=%(objectsize)"), "".join(f"{n}\n" for n in names)
    output = git(*asked, git_dir=store, stdin=lines.encode(), env=env)
    sizes = [int(size) for size in output.split()]
    if max(sizes, default=0) > limits.object or sum(sizes) > limits.total:
        raise CheckpointBad("The changes are larger than a checkpoint may be.")


def _names(path: Path) -> list[str]:
    """Return the names of the objects in a pack, from the index that git has just written."""
    index = path.read_bytes()
    if index[:8] != INDEX_START:
        raise CheckpointBad(detail="an index of another version")
    (count,) = struct.unpack_from(">I", index, INDEX_NAMES - 4)
    places = range(INDEX_NAMES, INDEX_NAMES + 20 * count, 20)
    return [index[place : place + 20].hex() for place in places]


def _check_commit(store: Path, claim: Claim, env: dict[str, str]) -> None:
    """Refuse a commit that is not byte for byte the only one it may be.

    git has computed the name of every object in the pack, so the right name is the right content.
    """
    facts = {"tree": claim.tree, "parent": claim.parent}
    if claim.is_final:
        # One parent, and the tree of a checkpoint: what it holds was checked with that one.
        found = git("cat-file", "commit", claim.commit, git_dir=store, env=env)
        start = "tree {tree}\nparent {parent}\nauthor ".format(**facts)
        is_claimed = found.decode("utf-8", "replace").startswith(start)
    else:
        text = COMMIT.format(**facts).encode()
        name = hashlib.sha1(b"commit %d\0" % len(text) + text)  # noqa: S324 - git's names
        is_claimed = name.hexdigest() == claim.commit
    if not is_claimed:
        raise CheckpointBad(detail="the commit is not what the header says")


def check_changes(
    store: Path, base: str, head: str, *, env: dict[str, str] | None = None, limits: PackLimits
) -> None:
    """Refuse gitlinks, odd modes, unsafe paths and too many changes. Raises CheckpointBad."""
    try:
        listing = git(
            "diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", checked(base),
            checked(head), git_dir=store, env=env, bounds=Bounds(output=limits.files * 1000, cpu=LISTING_CPU, memory=LISTING_MEMORY),
        )  # fmt: skip
    except OutputTooLarge:
        raise CheckpointBad("The changes touch more files than a checkpoint may hold.") from None
    fields = listing.split(b"\0")[:-1]
    if len(fields) // 2 > limits.files:
        raise CheckpointBad("The changes touch more files than a checkpoint may hold.")
    for facts, path in zip(fields[::2], fields[1::2], strict=True):
        _check_mode(facts.decode().split()[1])
        check_path(path, depth=limits.depth)


def _check_mode(mode: str) -> None:
    if mode == GITLINK:
        raise CheckpointBad("A repository inside the repository cannot be kept.")
    if mode not in MODES:
        raise CheckpointBad(detail=f"mode {mode}")


def check_path(path: bytes, *, depth: int) -> None:
    """Refuse a path that git, a terminal or another file system could misread."""
    parts = path.split(b"/")
    if len(parts) > depth or len(path) > 4000 or any(len(part) > 255 for part in parts):
        raise CheckpointBad("A path is too long or nested too deeply.")
    if any(byte < 32 or byte == 127 for byte in path):
        raise CheckpointBad("A file name holds control characters.")
    for part in parts:
        plain = IGNORED_BY_HFS.sub("", part.decode("utf-8", "replace")).lower().rstrip(". ")
        if part in FORBIDDEN_NAMES or plain.encode() in FORBIDDEN_NAMES - {b""}:
            raise CheckpointBad("A file name is reserved by git.")


def _admit(folder: Path, store: Path) -> None:
    """Move the checked packs into the store; the index comes last, for it makes a pack seen."""
    target = _made(store / "objects" / "pack")
    for suffix in (".pack", ".rev", ".idx"):
        for path in (folder / "pack").glob(f"*{suffix}"):
            path.rename(target / path.name)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
