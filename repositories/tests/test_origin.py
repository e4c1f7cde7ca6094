"""A repository that the platform makes of given files."""

from __future__ import annotations

from pathlib import Path

import pytest

from repositories import git
from repositories.git.objects import list_tree, show_file


def test_the_same_files_make_the_same_commit(tmp_path: Path) -> None:
    files = {"src/a.py": b"x = 1\n", 'odd "name" \\ ü.txt': b"\x00\xff", "empty": b""}
    first = git.create_origin(tmp_path / "one.git", files)
    again = git.create_origin(tmp_path / "two.git", dict(reversed(files.items())))
    assert first == again
    assert {entry.path for entry in list_tree(tmp_path / "one.git", first)} == set(files)
    for path, content in files.items():
        assert show_file(tmp_path / "one.git", first, path, max_bytes=100) == content


def test_nothing_at_all_is_a_start_too(tmp_path: Path) -> None:
    commit = git.create_origin(tmp_path / "one.git", {})
    assert list_tree(tmp_path / "one.git", commit) == []
    assert git.resolve_commit(tmp_path / "one.git", "main") == commit


def test_making_it_again_replaces_what_a_crash_left(tmp_path: Path) -> None:
    (tmp_path / "one.git").mkdir()
    (tmp_path / "one.git" / "half").write_text("made")
    commit = git.create_origin(tmp_path / "one.git", {"a": b"1"})
    assert show_file(tmp_path / "one.git", commit, "a", max_bytes=10) == b"1"
    assert not (tmp_path / "one.git" / "half").exists()


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../b", ".git/config", "a\nb", "", "x/.GIT/y"])
def test_unsafe_paths_are_refused(tmp_path: Path, path: str) -> None:
    assert not git.is_safe_path(path)
    with pytest.raises(git.GitFailed):
        git.create_origin(tmp_path / "one.git", {path: b"x"})
    assert not (tmp_path / "one.git").exists()
