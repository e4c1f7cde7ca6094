"""A work tree goes out as a checkpoint and comes back the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from repositories import git
from repositories.tests.make import Bench, make_bench, make_upstream, plain_git, write


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    upstream = make_upstream(
        tmp_path / "upstream",
        {"README.md": "# Sample\n", "src/app.py": "one = 1\n", "old.txt": "old\n",
         "run.sh": "#!/bin/sh\n", ".gitignore": "build/\n*.log\n"},
    )  # fmt: skip
    return make_bench(tmp_path / "var", upstream)


def test_untouched_tree_makes_no_new_checkpoint(bench: Bench) -> None:
    made = bench.checkpoint()
    assert (made.commit, made.is_new) == (bench.base, False)


def test_change_goes_out_and_comes_back(bench: Bench) -> None:
    write(bench.tree, {"src/app.py": "one = 2\n", "new/file.txt": "x", "old.txt": None})
    before = bench.paths()
    made = bench.checkpoint()
    assert made.is_new
    bench.fresh_tree()
    bench.restore()
    assert bench.paths() == before
    files = {
        file.path: file.status for file in git.changed_files(bench.store, bench.base, made.commit)
    }
    assert files == {"src/app.py": "modified", "new/file.txt": "added", "old.txt": "deleted"}
    assert plain_git("status", "--porcelain", cwd=bench.tree) != ""
