"""What a workspace hands over is hostile: nothing but one honest commit enters a store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asynccoder.tests import cpu
from repositories import git
from repositories.git.store import COMMIT
from repositories.tests.forged import ATTACKS, Forge, is_taken_by_plain_git, nested
from repositories.tests.make import Bench, make_bench, make_upstream, plain_git, write

SMALL = git.PackLimits(pack=2 * 1024**2, objects=200, object=4 * 1024**2, total=8 * 1024**2, files=100,
                       depth=20, cpu=20, seconds=30)  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "var", make_upstream(tmp_path / "upstream"))


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


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused_and_leaves_nothing(bench: Bench, attack: str) -> None:
    forge = Forge()
    output = forge.output(ATTACKS[attack](forge, bench.base), bench.base)
    with cpu.at_most(20):
        refused(bench, output)
    assert is_taken_by_plain_git(bench, output), "the control: plain git takes it"


def test_thousands_of_nested_trees_end_in_a_refusal(bench: Bench) -> None:
    forge = Forge()
    output = forge.output(nested(8_000)(forge, bench.base), bench.base)
    refused(bench, output, git.PackLimits(objects=10_000))


def test_bomb_is_stopped_by_its_processor_time(bench: Bench) -> None:
    forge = Forge()
    tree = forge.tree(("100644", "zeroes", forge.blob(b"\0" * (100 * 1024**2))))
    commit = forge.commit(tree, bench.base)
    output = f"{commit} {tree}\n".encode() + forge.pack(copies=50)
    assert len(output) < 30 * 1024**2
    with cpu.at_most(5):
        refused(bench, output, git.PackLimits(cpu=1, seconds=60, object=10**10, total=10**10))


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


@pytest.mark.parametrize("name", ["objects", "object", "total", "depth", "files"])
def test_each_limit_holds_at_its_edge(bench: Bench, name: str) -> None:
    forge = Forge()
    inner = forge.tree(("100644", "x", forge.blob(b"x" * 5_000)))
    tree = forge.tree(("40000", "d", forge.tree(("40000", "d", inner))))
    output = forge.output(tree, bench.base)
    sizes = [len(content) for _, content in forge.objects.values()]
    removed = len(git.list_tree(bench.mirror, bench.base))
    exact = {
        "objects": len(sizes),
        "object": max(sizes),
        "total": sum(sizes),
        "depth": 3,
        "files": 1 + removed,
    }[name]
    below, edge = git.PackLimits(**{name: exact - 1}), git.PackLimits(**{name: exact})
    refused(bench, output, below)
    assert git.accept_checkpoint(bench.store, output, previous=bench.base, limits=edge).is_new


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
