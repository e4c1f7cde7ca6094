"""What a setup made stays out of checkpoints until the agent changes it, also after a restore."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from repositories import git
from repositories.tests.make import Bench, make_bench, make_upstream, write

RIPGREP = Path(sys.executable).with_name("rg")
FILES: dict[str, str | bytes] = {
    "app.py": "one = 1\n",
    "lock.json": "{}\n",
    "old.txt": "old\n",
    "folder/inner.txt": "inner\n",
    ".gitignore": "ignored/\n",
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "var", make_upstream(tmp_path / "upstream", FILES))


def set_up(tree: Path) -> None:
    """Make, change, remove and replace files, as a careless setup command does."""
    write(
        tree,
        {
            "made.txt": "made\n",
            "made/deep/x y.txt": "x\n",
            "made/we[i]rd\n*name": "x\n",
            "ignored/cache.bin": b"\0" * 5000,
            "lock.json": '{"resolved": true}\n',
            "old.txt": None,
        },
    )
    shutil.rmtree(tree / "folder")
    (tree / "folder").write_text("a file now\n")
    (tree / "link").symlink_to("made.txt")


def changed(bench: Bench, commit: str) -> dict[str, str]:
    files = git.changed_files(bench.store, bench.base, commit)
    return {file.path: file.status for file in files}


@pytest.fixture
def ready(bench: Bench) -> Bench:
    set_up(bench.tree)
    bench.look()
    return bench


def again(bench: Bench, setup: Callable[[Path], None] = set_up) -> None:
    """Lose the sandbox, set another one up and bring it to the last checkpoint."""
    bench.fresh_tree()
    setup(bench.tree)
    bench.look()
    bench.restore()


def test_nothing_of_the_setup_is_a_change(ready: Bench) -> None:
    assert not ready.checkpoint().is_new


def test_only_the_agents_changes_are_kept(ready: Bench) -> None:
    write(ready.tree, {"app.py": "one = 2\n", "made/mine.txt": "mine\n"})
    made = ready.checkpoint()
    assert changed(ready, made.commit) == {"app.py": "modified", "made/mine.txt": "added"}
    assert not ready.checkpoint().is_new


def test_what_the_agent_changes_of_it_is_kept_whole(ready: Bench) -> None:
    write(ready.tree, {"made.txt": "made\nmore\n", "lock.json": "{1}\n", "old.txt": "new\n"})
    made = ready.checkpoint()
    assert changed(ready, made.commit) == {
        "made.txt": "added",
        "lock.json": "modified",
        "old.txt": "modified",
    }
    assert git.show_file(ready.store, made.commit, "made.txt", max_bytes=99) == b"made\nmore\n"


def test_what_the_agent_removes_of_it_is_no_change(ready: Bench) -> None:
    (ready.tree / "made.txt").unlink()
    (ready.tree / "link").unlink()
    assert not ready.checkpoint().is_new


def test_a_tracked_file_that_the_agent_removes_is_a_change(ready: Bench) -> None:
    (ready.tree / "lock.json").unlink()
    assert changed(ready, ready.checkpoint().commit) == {"lock.json": "deleted"}


def test_a_file_of_the_setup_under_another_name_is_the_agents(ready: Bench) -> None:
    (ready.tree / "made.txt").rename(ready.tree / "mine.txt")
    assert changed(ready, ready.checkpoint().commit) == {"mine.txt": "added"}


def test_the_tree_comes_back_as_the_agent_left_it(ready: Bench) -> None:
    write(ready.tree, {"app.py": "one = 2\n", "made.txt": "mine\n", "new.txt": "new\n"})
    (ready.tree / "link").unlink()
    (ready.tree / "link").symlink_to("new.txt")
    ready.checkpoint()
    before = ready.paths()
    again(ready)
    assert ready.paths() == before
    assert not ready.checkpoint().is_new


def test_a_checkpoint_after_a_restore_is_the_one_without_it(ready: Bench, tmp_path: Path) -> None:
    write(ready.tree, {"made.txt": "mine\n"})
    first = ready.checkpoint().commit
    trees = []
    for is_interrupted in (False, True):
        ready.previous = first
        if is_interrupted:
            again(ready)
        # Back to what the setup had made: it stays the agent's.
        write(ready.tree, {"made.txt": "made\n", "app.py": "one = 3\n"})
        trees.append(ready.checkpoint().tree)
        shutil.rmtree(ready.private)
    assert trees[0] == trees[1]


def set_up_otherwise(tree: Path) -> None:
    write(tree, {"made.txt": "made by another\n", "other.txt": "x\n", "lock.json": "{2}\n"})


@pytest.mark.parametrize("setup", [set_up_otherwise, lambda tree: None])
def test_another_result_of_the_setup_changes_no_checkpoint(
    ready: Bench, setup: Callable[[Path], None]
) -> None:
    write(ready.tree, {"app.py": "one = 2\n", "lock.json": "{3}\n"})
    tree = ready.checkpoint().tree
    again(ready, setup)
    assert not ready.checkpoint().is_new
    write(ready.tree, {"more.txt": "x\n"})
    made = ready.checkpoint()
    assert changed(ready, made.commit) == {
        "app.py": "modified",
        "lock.json": "modified",
        "more.txt": "added",
    }
    assert made.tree != tree


def test_a_result_that_is_now_what_the_agent_wrote_hides_nothing(ready: Bench) -> None:
    write(ready.tree, {"made.txt": "made by another\n"})
    tree = ready.checkpoint().tree
    again(ready, set_up_otherwise)
    made = ready.checkpoint()
    assert (made.tree, made.is_new) == (tree, False)


def test_the_scripts_go_on_when_the_agent_has_removed_their_files(ready: Bench) -> None:
    shutil.rmtree(ready.private)
    write(ready.tree, {"app.py": "one = 2\n"})
    assert changed(ready, ready.checkpoint().commit) == {"app.py": "modified"}


def test_large_files_of_the_setup_are_not_kept_as_objects(bench: Bench) -> None:
    write(bench.tree, {"vendor/large.bin": b"\0\1" * 10**6})
    # Git reads a file again that is no older than its index.
    os.utime(bench.tree / "vendor/large.bin", (10**9, 10**9))
    bench.look()
    bench.checkpoint()
    kept = [path for path in (bench.private / "git/objects").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < 5_000


def test_status_and_analysers_are_not_shown_what_the_setup_made(ready: Bench) -> None:
    for argv in (["git", "status", "--porcelain"], [str(RIPGREP), "--files", "--hidden"]):
        shown = subprocess.run(argv, cwd=ready.tree, capture_output=True, text=True, check=True)
        assert "made" not in shown.stdout
        assert "ignored/" not in shown.stdout


def test_a_repository_that_the_setup_fetched_is_left_out(bench: Bench) -> None:
    source = make_upstream(bench.tree.parent / "source", {"lib.py": "x\n"})
    subprocess.run(["git", "clone", "-q", str(source), str(bench.tree / "lib")], check=True)
    bench.look()
    assert bench.made == b""
    write(bench.tree, {"app.py": "one = 2\n"})
    assert changed(bench, bench.checkpoint().commit) == {"app.py": "modified"}


def test_a_setup_that_makes_nothing_visible_is_told_as_nothing(bench: Bench) -> None:
    write(bench.tree, {"ignored/x": "x"})
    (bench.tree / "app.py").touch()
    bench.look()
    assert bench.made == b""


# --- where there are no overlays, it is packed ---------------------------------------------------


def test_what_is_packed_and_gone_makes_the_same_tree_again(ready: Bench) -> None:
    write(ready.tree, {"node_modules/x/index.js": "x\n"})
    (ready.tree / "app.py").chmod(0o755)
    before = ready.paths()
    ready.made = b""
    packed = ready.script(git.MADE_SCRIPT, ready.base, name="packed").stdout
    gone = ready.script(git.MADE_SCRIPT, ready.base, name="gone").stdout
    assert gone.split(b"\0")[:-1] == [b"folder/inner.txt", b"old.txt"]
    ready.fresh_tree()
    for path in gone.split(b"\0")[:-1]:
        (ready.tree / path.decode()).unlink()
    unpack = ["tar", "-xpf", "-", "--recursive-unlink"]
    subprocess.run(unpack, cwd=ready.tree, input=packed, check=True)
    assert ready.paths() == before
    assert (ready.tree / "app.py").stat().st_mode & 0o111
