"""One tree per commit: whole or not there, owned, equal each time, removed when idle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from repositories import git
from repositories.tests.make import ME, commit_upstream, make_upstream, plain_git

FILES: dict[str, str | bytes] = {
    "README.md": "x\n",
    "src/app.py": "one = 1\n",
    "run.sh": "#!/bin/sh\n",
}


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    path = make_upstream(tmp_path / "upstream", FILES)
    (path / "link").symlink_to("README.md")
    commit_upstream(path, {})
    return path


@pytest.fixture
def mirror(tmp_path: Path, upstream: Path) -> Path:
    path = tmp_path / "var/mirror.git"
    git.ensure_mirror(path, git.Remote(str(upstream)), max_bytes=10**8)
    return path


def build(mirror: Path, *, owner: tuple[int, int] = ME) -> Path:
    commit = git.resolve_commit(mirror, "main")
    return git.build_base(mirror, commit, mirror.parent / "bases", owner=owner)


def test_tree_is_the_commits_and_clean(mirror: Path) -> None:
    base = build(mirror)
    assert sorted(path.name for path in base.iterdir()) == [
        ".git",
        "README.md",
        "link",
        "run.sh",
        "src",
    ]
    assert (base / "link").readlink() == Path("README.md")
    assert plain_git("status", "--porcelain", cwd=base) == ""
    assert plain_git("log", "--oneline", cwd=base).count("\n") == 1


def test_second_request_finds_the_same_tree(mirror: Path) -> None:
    base = build(mirror)
    made = base.stat().st_ino
    assert build(mirror).stat().st_ino == made


def test_tree_built_again_fits_the_first_ones_index(mirror: Path) -> None:
    base = build(mirror)
    index = (base / ".git/index").read_bytes()
    times = {
        path.name: path.lstat().st_mtime for path in base.rglob("*") if ".git" not in path.parts
    }
    git.prune_bases(mirror.parent / "bases", keep_bytes=0, idle_seconds=0)
    again = build(mirror)
    assert times == {
        path.name: path.lstat().st_mtime for path in again.rglob("*") if ".git" not in path.parts
    }
    (again / ".git/index").write_bytes(index)
    assert plain_git("diff-files", "--name-only", cwd=again) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_everything_belongs_to_the_owner(mirror: Path) -> None:
    base = build(mirror, owner=(65534, 65534))
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in [base, *base.rglob("*")]}
    assert owners == {(65534, 65534)}
    assert Path("README.md").absolute() != base  # The link itself was given away, not its target.


def test_unknown_commit_leaves_nothing_behind(mirror: Path) -> None:
    bases = mirror.parent / "bases"
    with pytest.raises(git.GitFailed):
        git.build_base(mirror, "1" * 40, bases, owner=ME)
    assert not list(bases.glob("*"))


def test_commit_of_a_task_gets_a_base_of_its_own(mirror: Path, tmp_path: Path) -> None:
    base, bases = build(mirror), mirror.parent / "bases"
    stores = [tmp_path / name / "store.git" for name in ("one", "two")]
    patch = "--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-x\n+y\n"
    trees = []
    for store in stores:
        git.create_store(store, mirror)
        assert git.build_base(store, base.name, bases, owner=ME) == base
        patched = git.apply_patch_tree(store, base.name, patch)
        trees.append(git.build_base(store, patched, bases, owner=ME))
    assert trees[0] != trees[1]
    assert (trees[0] / "README.md").read_text() == "y\n"
    assert plain_git("status", "--porcelain", cwd=trees[1]) == ""


BUILD = """
import os, sys
from pathlib import Path
from repositories import git
mirror = Path(sys.argv[1])
commit = git.resolve_commit(mirror, "main")
print(git.build_base(mirror, commit, mirror.parent / "bases", owner=(os.getuid(), os.getgid())).stat().st_ino)
"""


def test_builders_at_once_share_one_tree(mirror: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", BUILD, str(mirror)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = {worker.communicate(timeout=60)[0] for worker in workers}
    assert len(answers) == 1
    assert answers != {b""}


def test_tree_over_its_limits_is_refused_before_it_is_written(mirror: Path) -> None:
    commit, bases = git.resolve_commit(mirror, "main"), mirror.parent / "bases"
    for limits in (git.TreeLimits(files=3), git.TreeLimits(bytes=10), git.TreeLimits(depth=0)):
        with pytest.raises(git.RepositoryTooLarge):
            git.build_base(mirror, commit, bases, owner=ME, limits=limits)
    assert list(bases.glob(".building-*")) == []
    assert git.build_base(mirror, commit, bases, owner=ME, limits=git.TreeLimits(files=4)).is_dir()


def test_prune_removes_the_longest_unasked_first(mirror: Path, upstream: Path) -> None:
    bases, commits = mirror.parent / "bases", []
    for number in range(3):
        commits.append(commit_upstream(upstream, {"n.txt": str(number)}))
        git.ensure_mirror(mirror, git.Remote(str(upstream)), max_bytes=10**8)
        build(mirror)
        stamp = bases / f"{commits[-1]}.stamp"
        os.utime(stamp, (time.time() - 9000 + number, time.time() - 9000 + number))
    size = int((bases / f"{commits[0]}.stamp").read_text())
    assert git.prune_bases(bases, keep_bytes=10 * size, idle_seconds=3600) == []
    assert git.prune_bases(bases, keep_bytes=0, idle_seconds=10_000) == []
    assert git.prune_bases(bases, keep_bytes=2 * size, idle_seconds=3600) == [commits[0]]
    assert not (bases / commits[0]).exists()
    assert (bases / commits[2] / "README.md").exists()


def test_prune_removes_what_a_killed_builder_left(mirror: Path) -> None:
    build(mirror)
    left = mirror.parent / "bases/.building-dead"
    (left / "x").mkdir(parents=True)
    git.prune_bases(mirror.parent / "bases", keep_bytes=10**12)
    assert left.exists()
    git.prune_bases(mirror.parent / "bases", keep_bytes=10**12, idle_seconds=0)
    assert not left.exists()
