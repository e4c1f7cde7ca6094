"""Packs that come back from a sandbox, forged object by object."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from campaigns.repositories.vector import REFUSES_TOO, Outcome, Vector
from repositories import git
from repositories.git.store import COMMIT
from repositories.tests.forged import ATTACKS, Forge, below, entry, is_taken_by_plain_git, nested
from repositories.tests.make import Bench, make_bench, make_upstream, write

CHANGES = "each changed path, mode and size is checked"
COMMITS = "the commit must be the one that it may be, byte for byte"
LIMITED = "limits of size, processor time and memory"
SMALL = git.PackLimits(pack=2 * 1024**2, objects=200, object=4 * 1024**2, total=8 * 1024**2, files=100,
                       depth=20, cpu=20, seconds=30)  # fmt: skip
OTHER_COMMITS = {
    "without a parent": "tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n",
    "of two parents": COMMIT.replace("parent {parent}\n", "parent {parent}\nparent {parent}\n"),
    "in another's name": COMMIT.replace("Async Coder <", "Somebody <"),
    "whose text commands a terminal": COMMIT + "\x1b[0m",
    "with a forged signature": COMMIT.replace("\n\n", "\nencoding x\ngpgsig y\n\n"),
}
NO_CHECKPOINTS = (
    b"", b"\n", b"same", b"same \n", b"same " + b"1" * 40 + b"\n", b"PACK" + b"\0" * 100, b"x" * 10_000,
    b"1" * 40 + b" " + b"2" * 40 + b"\nPACK", b"--all " + b"2" * 40 + b"\n",
)  # fmt: skip
MORE_NAMES = {
    "a stream of another file system": ".git::$INDEX_ALLOCATION",
    "a name in another alphabet's ignorables": ".g\u200d\u202eit",
    "a byte order mark": "\ufeff.git",
    "a short name in capitals": "GIT~1",
}


def vectors() -> Iterator[Vector]:
    for name, make in ATTACKS.items():
        yield Vector(f"pack: {name}", CHANGES, partial(_forged, make))
    for what, name in MORE_NAMES.items():
        yield Vector(f"pack: dot git by {what}", CHANGES, partial(_forged, below(name)))
    for what, text in OTHER_COMMITS.items():
        yield Vector(f"pack: a commit {what}", COMMITS, partial(_other_commit, text))
    yield Vector("pack: 8,000 nested trees", LIMITED, partial(_forged, nested(8_000)))
    yield Vector("pack: 5 GB of zeroes in 25 MB", LIMITED, _bomb)
    yield Vector("pack: objects that are not there", CHANGES, partial(_forged, _missing))
    yield Vector("pack: a header that lies", COMMITS, _lying_header)
    yield Vector("pack: what is no pack", COMMITS, _no_checkpoints, REFUSES_TOO)


def bench_in(folder: Path) -> Bench:
    return make_bench(folder / "var", make_upstream(folder / "upstream"))


def offered(bench: Bench, output: bytes, limits: git.PackLimits = SMALL) -> str:
    """Hand over; return how it got through."""
    before = _state(bench)
    try:
        git.accept_checkpoint(bench.store, output, previous=bench.base, limits=limits)
    except git.CheckpointBad:
        return "" if _state(bench) == before else "a refused pack left something"
    return "the pack was taken"


def _state(bench: Bench) -> list[str]:
    return sorted(str(path) for path in bench.store.rglob("*"))


def _forged(make: Callable[[Forge, str], str], folder: Path) -> Outcome:
    bench, forge = bench_in(folder), Forge()
    output = forge.output(make(forge, bench.base), bench.base)
    return Outcome(offered(bench, output), is_taken_by_plain_git(bench, output))


def _other_commit(text: str, folder: Path) -> Outcome:
    bench, forge = bench_in(folder), Forge()
    tree = forge.tree(("100644", "a", forge.blob()))
    commit = forge.add("commit", text.format(tree=tree, parent=bench.base).encode())
    output = f"{commit} {tree}\n".encode() + forge.pack()
    return Outcome(offered(bench, output), is_taken_by_plain_git(bench, output))


def _missing(forge: Forge, base: str) -> str:
    return forge.tree(("100644", "a", "1" * 40))


def _bomb(folder: Path) -> Outcome:
    bench, forge = bench_in(folder), Forge()
    tree = forge.tree(("100644", "zeroes", forge.blob(b"\0" * (100 * 1024**2))))
    output = f"{forge.commit(tree, bench.base)} {tree}\n".encode() + forge.pack(copies=50)
    limits = git.PackLimits(cpu=1, seconds=60, object=10**10, total=10**10)
    got = offered(bench, output, limits)
    # One copy is what it is a multiple of; to unpack all would take the machine minutes.
    single = f"{forge.commit(tree, bench.base)} {tree}\n".encode() + forge.pack()
    return Outcome(got, is_taken_by_plain_git(bench, single))


def _lying_header(folder: Path) -> Outcome:
    bench, forge = bench_in(folder), Forge()
    tree = forge.tree(("100644", "a", forge.blob()))
    pack = forge.output(tree, bench.base).partition(b"\n")[2]
    other = forge.tree(("100644", "b", forge.blob()))
    lies = (f"{forge.commit(tree, bench.base)} {other}\n", f"{bench.base} {tree}\n")
    got = [offered(bench, lie.encode() + pack) for lie in lies]
    return Outcome("".join(got), is_taken_by_plain_git(bench, lies[0].encode() + pack))


def _no_checkpoints(folder: Path) -> Outcome:
    bench = bench_in(folder)
    return Outcome("".join(offered(bench, output) for output in NO_CHECKPOINTS))


# --- by chance -----------------------------------------------------------------------------------


def damaged(count: int, chance: random.Random, folder: Path) -> Outcome:
    """Change or cut an honest hand-over so many times; the honest one is taken at the end."""
    bench = bench_in(folder)
    write(bench.tree, {"a.txt": "x" * 100, "b.txt": "y" * 100})
    honest = bench.hand_over()
    for _ in range(count):
        place = chance.randrange(82, len(honest))
        broken = bytearray(honest)
        broken[place] ^= chance.randrange(1, 256)
        if got := offered(bench, bytes(broken) if chance.random() < 0.7 else honest[:place]):
            return Outcome(f"{got}: byte {place}")
    return Outcome("", bool(offered(bench, honest, git.PackLimits())))


def names_near_git(count: int, chance: random.Random, folder: Path) -> Outcome:
    """Offer names that some file system takes for ``.git``."""
    bench, control = bench_in(folder), True
    for _ in range(count):
        name = _near_git(chance)
        forge = Forge()
        make = chance.choice((below, partial(entry, "100644")))
        output = forge.output(make(name)(forge, bench.base), bench.base)
        if got := offered(bench, output):
            return Outcome(f"{got}: {name!r}")
        control = control and is_taken_by_plain_git(bench, output)
    return Outcome("", control)


IGNORED = "\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u206a\u206f\ufeff"


def _near_git(chance: random.Random) -> str:
    letters = "".join(chance.choice((c, c.upper())) for c in chance.choice((".git", "git~1")))
    if letters.startswith("."):
        for _ in range(chance.randrange(3)):
            place = chance.randrange(len(letters) + 1)
            letters = letters[:place] + chance.choice(IGNORED) + letters[place:]
    return letters + "".join(chance.choice(". ") for _ in range(chance.randrange(3)))
