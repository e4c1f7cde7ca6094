"""Every change of a tree is told from outside; a tree that was only read is the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.sandbox import traces
from tasks.sandbox.traces import traces_of


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    (root / "a.txt").write_text("one\n")
    (root / "folder" / "b.txt").write_text("two\n")
    (root / "link").symlink_to("a.txt")
    return root


def rewrite_with_its_old_time(tree: Path) -> None:
    info = (tree / "a.txt").stat()
    (tree / "a.txt").write_text("eno\n")
    os.utime(tree / "a.txt", ns=(info.st_atime_ns, info.st_mtime_ns))


def replace_the_link(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("b.txt")


@pytest.mark.parametrize(
    "change",
    [
        rewrite_with_its_old_time,
        lambda tree: (tree / "folder" / "b.txt").chmod(0o755),
        lambda tree: (tree / "folder" / "b.txt").rename(tree / "folder" / "c.txt"),
        lambda tree: (tree / "folder" / "b.txt").unlink(),
        lambda tree: (tree / "folder" / "new").mkdir(),
        lambda tree: (tree / "folder").rename(tree / "other"),
        replace_the_link,
    ],
    ids=["same size and time", "mode", "name", "removed", "new folder", "folder's name", "link"],
)
def test_a_change_is_told(tree: Path, change: Callable[[Path], object]) -> None:
    before = traces_of(tree)
    change(tree)
    assert before != traces_of(tree) != b""


def test_reading_changes_nothing(tree: Path) -> None:
    before = traces_of(tree)
    assert (tree / "a.txt").read_text() == "one\n"
    assert traces_of(tree) == before != b""


def test_a_large_tree_and_a_missing_one_cannot_be_told(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four entries, at the edge and above it.
    monkeypatch.setattr(traces, "MOST_ENTRIES", 4)
    assert traces_of(tree)
    (tree / "more").touch()
    assert traces_of(tree) == b""
    assert traces_of(tree / "nothing") == b""
