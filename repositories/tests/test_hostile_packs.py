"""What a workspace hands over is hostile: nothing but one honest commit enters a store."""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from repositories import git
from repositories.git.store import COMMIT
from repositories.tests.make import Bench, make_bench, make_upstream, plain_git, write

SMALL = git.PackLimits(pack=2 * 1024**2, objects=200, object=4 * 1024**2, total=8 * 1024**2, files=100,
                       depth=20, cpu=20, seconds=30)  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "var", make_upstream(tmp_path / "upstream"))


class Forge:
    """Makes any object at all, and packs of them, as an attacker in a sandbox can."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[int, bytes]] = {}

    def add(self, kind: str, content: bytes) -> str:
        name = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content).hexdigest()
        self.objects[name] = ({"commit": 1, "tree": 2, "blob": 3}[kind], content)
        return name

    def blob(self, content: bytes = b"x\n") -> str:
        return self.add("blob", content)

    def tree(self, *entries: tuple[str, str | bytes, str]) -> str:
        """Each entry is mode, name and object."""
        lines = []
        for mode, name, target in entries:
            raw = name if isinstance(name, bytes) else name.encode()
            lines.append(mode.encode() + b" " + raw + b"\0" + bytes.fromhex(target))
        return self.add("tree", b"".join(lines))

    def commit(self, tree: str, parent: str) -> str:
        return self.add("commit", COMMIT.format(tree=tree, parent=parent).encode())

    def pack(self, *, copies: int = 1) -> bytes:
        """Return a pack that holds each object so many times."""
        parts = []
        for kind, content in self.objects.values():
            size = len(content)
            head = [(kind << 4) | (size & 15)]
            size >>= 4
            while size:
                head[-1] |= 128
                head.append(size & 127)
                size >>= 7
            parts.append(bytes(head) + zlib.compress(content, 1))
        count = len(parts) * copies
        body = b"".join([b"PACK", struct.pack(">II", 2, count), *parts * copies])
        return body + hashlib.sha1(body).digest()

    def output(self, tree: str, parent: str) -> bytes:
        commit = self.commit(tree, parent)
        return f"{commit} {tree}\n".encode() + self.pack()


def is_taken_by_plain_git(bench: Bench, output: bytes) -> bool:
    """The control: git itself, without our checks, takes the pack."""
    pack = output.partition(b"\n")[2]
    try:
        plain_git("index-pack", "--stdin", "--fix-thin", cwd=bench.store, stdin=pack)
    except Exception:  # noqa: BLE001 - any refusal of git counts
        return False
    return True


def refused(bench: Bench, output: bytes, limits: git.PackLimits = SMALL) -> str:
    """Hand over; return the message of the refusal, having seen that nothing was kept."""
    before = state(bench)
    with pytest.raises(git.CheckpointBad) as caught:
        git.accept_checkpoint(bench.store, output, previous=bench.base, limits=limits)
    assert state(bench) == before
    assert str(bench.store) not in str(caught.value)
    return str(caught.value)


def state(bench: Bench) -> list[str]:
    return sorted(str(path) for path in bench.store.rglob("*"))


def test_honest_commit_of_the_forge_is_taken(bench: Bench) -> None:
    forge = Forge()
    tree = forge.tree(("100644", "a.txt", forge.blob()))
    made = git.accept_checkpoint(
        bench.store, forge.output(tree, bench.base), previous=bench.base, limits=SMALL
    )
    assert made.tree == tree
    assert git.show_file(bench.store, made.commit, "a.txt", max_bytes=9) == b"x\n"


def entry(mode: str, name: str | bytes) -> Callable[[Forge, Bench], str]:
    return lambda forge, bench: forge.tree((mode, name, forge.blob()))


def below(folder: str | bytes) -> Callable[[Forge, Bench], str]:
    return lambda forge, bench: forge.tree(
        ("40000", folder, forge.tree(("100644", "config", forge.blob())))
    )


def gitlink(forge: Forge, bench: Bench) -> str:
    return forge.tree(("160000", "module", bench.base))


def doubled(forge: Forge, bench: Bench) -> str:
    return forge.tree(("100644", "a", forge.blob()), ("120000", "a", forge.blob(b"/etc")))


def unsorted(forge: Forge, bench: Bench) -> str:
    return forge.tree(("100644", "b", forge.blob()), ("100644", "a", forge.blob()))


def link_and_folder(forge: Forge, bench: Bench) -> str:
    inner = forge.tree(("100644", "passwd", forge.blob()))
    return forge.tree(("120000", "a", forge.blob(b"/etc")), ("40000", "a", inner))


def nested(depth: int) -> Callable[[Forge, Bench], str]:
    def make(forge: Forge, bench: Bench) -> str:
        tree = forge.tree(("100644", "x", forge.blob()))
        for _ in range(depth):
            tree = forge.tree(("40000", "d", tree))
        return tree

    return make


def exponential(forge: Forge, bench: Bench) -> str:
    """Ten trees that name ten to the tenth files."""
    tree = forge.tree(*(("100644", f"f{number}", forge.blob()) for number in range(10)))
    for _ in range(9):
        tree = forge.tree(*(("40000", f"d{number}", tree) for number in range(10)))
    return tree


def large_blob(forge: Forge, bench: Bench) -> str:
    return forge.tree(("100644", "zeroes", forge.blob(b"\0" * (5 * 1024**2))))


def many_large_blobs(forge: Forge, bench: Bench) -> str:
    blobs = [forge.blob(bytes([number]) * 3 * 1024**2) for number in range(3)]
    return forge.tree(*(("100644", f"f{number}", name) for number, name in enumerate(blobs)))


def many_objects(forge: Forge, bench: Bench) -> str:
    for number in range(250):
        forge.blob(b"%d" % number)
    return forge.tree(("100644", "a", forge.blob()))


def many_files(forge: Forge, bench: Bench) -> str:
    blob = forge.blob()
    return forge.tree(*(("100644", f"f{number:04}", blob) for number in range(101)))


ATTACKS: dict[str, Callable[[Forge, Bench], str]] = {
    "gitlink": gitlink,
    "dot git": below(".git"),
    "dot GIT": below(".GIT"),
    "dot git file": entry("100644", ".git"),
    "dot git with a space": below(".git "),
    "dot git with dots": below(".git..."),
    "dot git with an ignorable": below(".g\u200cit"),
    "dot git deep below": lambda f, b: f.tree(("40000", "a", below(".gIt")(f, b))),
    "short name of dot git": below("git~1"),
    "parent folder": below(".."),
    "this folder": below("."),
    "empty name": below(""),
    "slash in a name": entry("100644", "../../outside"),
    "absolute name": entry("100644", "/etc/passwd"),
    "escape in a name": entry("100644", "a\x1b]0;x\x07"),
    "newline in a name": entry("100644", "a\nb"),
    "delete in a name": entry("100644", "a\x7f"),
    "name too long": entry("100644", "a" * 256),
    "odd mode": entry("100600", "a"),
    "device mode": entry("60000", "a"),
    "set user id": entry("104755", "a"),
    "two entries of one name": doubled,
    "link and folder of one name": link_and_folder,
    "unsorted": unsorted,
    "nested too deep": nested(25),
    "exponential": exponential,
    "large blob": large_blob,
    "many large blobs": many_large_blobs,
    "many objects": many_objects,
    "many files": many_files,
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused_and_leaves_nothing(bench: Bench, attack: str) -> None:
    forge = Forge()
    output = forge.output(ATTACKS[attack](forge, bench), bench.base)
    started = time.monotonic()
    refused(bench, output)
    assert time.monotonic() - started < 20
    assert is_taken_by_plain_git(bench, output), "the control: plain git takes it"


def test_thousands_of_nested_trees_end_in_a_refusal(bench: Bench) -> None:
    forge = Forge()
    output = forge.output(nested(8_000)(forge, bench), bench.base)
    refused(bench, output, git.PackLimits(objects=10_000))


def test_bomb_is_stopped_by_its_processor_time(bench: Bench) -> None:
    forge = Forge()
    tree = forge.tree(("100644", "zeroes", forge.blob(b"\0" * (100 * 1024**2))))
    commit = forge.commit(tree, bench.base)
    output = f"{commit} {tree}\n".encode() + forge.pack(copies=50)
    assert len(output) < 30 * 1024**2
    started = time.monotonic()
    refused(bench, output, git.PackLimits(cpu=1, seconds=60, object=10**10, total=10**10))
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "output",
    [b"", b"\n", b"same", b"same \n", b"same " + b"1" * 40 + b"\n", b"PACK" + b"\0" * 100,
     b"1" * 40 + b" " + b"2" * 40 + b"\n", b"x" * 10_000, b"1" * 40 + b" " + b"2" * 40 + b"\nPACK",
     b"G" * 40 + b" " + b"2" * 40 + b"\nPACK" + b"\0" * 40, b"--all " + b"2" * 40 + b"\n"],
)  # fmt: skip
def test_output_that_is_no_checkpoint(bench: Bench, output: bytes) -> None:
    refused(bench, output)


def test_random_damage_never_enters(bench: Bench) -> None:
    write(bench.tree, {"a.txt": "x" * 100, "b.txt": "y" * 100})
    honest = bench.hand_over()
    for position in range(82, len(honest), 7):
        damaged = bytearray(honest)
        damaged[position] ^= 0x41
        refused(bench, bytes(damaged))
    for length in range(83, len(honest), 11):
        refused(bench, honest[:length])
    assert git.accept_checkpoint(bench.store, honest, previous=bench.base).is_new


def test_header_must_tell_the_truth(bench: Bench) -> None:
    forge = Forge()
    tree = forge.tree(("100644", "a", forge.blob()))
    honest = forge.output(tree, bench.base)
    other = forge.tree(("100644", "b", forge.blob()))
    commit = forge.commit(tree, bench.base)
    refused(bench, f"{commit} {other}\n".encode() + honest.partition(b"\n")[2])
    refused(bench, f"{bench.base} {tree}\n".encode() + honest.partition(b"\n")[2])


@pytest.mark.parametrize(
    "text",
    [
        "tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n",
        COMMIT.replace("parent {parent}\n", "parent {parent}\nparent {parent}\n"),
        COMMIT.replace("Async Coder <", "Somebody <"),
        COMMIT + "\x1b[0m",
        COMMIT.replace("\n\n", "\nencoding x\ngpgsig y\n\n"),
    ],
)
def test_commit_must_be_the_only_one_it_may_be(bench: Bench, text: str) -> None:
    forge = Forge()
    tree = forge.tree(("100644", "a", forge.blob()))
    commit = forge.add("commit", text.format(tree=tree, parent=bench.base).encode())
    output = f"{commit} {tree}\n".encode() + forge.pack()
    refused(bench, output)
    assert is_taken_by_plain_git(bench, output)


def test_parent_must_be_the_previous_checkpoint(bench: Bench) -> None:
    write(bench.tree, {"a.txt": "1"})
    first = bench.checkpoint().commit
    forge = Forge()
    output = forge.output(forge.tree(("100644", "a", forge.blob())), bench.base)
    with pytest.raises(git.CheckpointBad):
        git.accept_checkpoint(bench.store, output, previous=first)
    assert git.accept_checkpoint(bench.store, output, previous=bench.base).is_new


def test_missing_objects_are_seen(bench: Bench) -> None:
    forge = Forge()
    output = forge.output(forge.tree(("100644", "a", "1" * 40)), bench.base)
    refused(bench, output)
    assert is_taken_by_plain_git(bench, output)


def test_limits_are_exact(bench: Bench) -> None:
    forge = Forge()
    tree = forge.tree(*(("100644", f"f{number:04}", forge.blob()) for number in range(98)))
    output = forge.output(tree, bench.base)
    # 98 added files and the two of the base that are gone: 100 changes.
    assert git.accept_checkpoint(bench.store, output, previous=bench.base, limits=SMALL).is_new
    exact = git.PackLimits(pack=len(output.partition(b"\n")[2]))
    assert git.accept_checkpoint(bench.store, output, previous=bench.base, limits=exact).is_new
    refused(bench, output, git.PackLimits(pack=exact.pack - 1))


def test_same_says_the_truth_or_is_refused(bench: Bench) -> None:
    tree = plain_git("rev-parse", f"{bench.base}^{{tree}}", cwd=bench.mirror)
    same = git.accept_checkpoint(bench.store, f"same {tree}\n".encode(), previous=bench.base)
    assert same == git.Checkpoint(bench.base, tree, is_new=False)
    refused(bench, f"same {tree}\nmore".encode())
    refused(bench, f"same {os.urandom(20).hex()}\n".encode())


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b/c", "x y", "-x", "x.lock", "A", "heads/../../x", "a" * 99]
)
def test_kept_names_are_plain(bench: Bench, name: str) -> None:
    with pytest.raises(git.GitFailed):
        git.keep_ref(bench.store, name, bench.base)


def test_kept_name_keeps_the_commit(bench: Bench) -> None:
    git.keep_ref(bench.store, "checkpoints/12", bench.base)
    assert plain_git("rev-parse", "refs/asynccoder/checkpoints/12", cwd=bench.store) == bench.base
