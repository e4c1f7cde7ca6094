"""Commits that are asked for by their names, and final commits that come from another store."""

from __future__ import annotations

from pathlib import Path

import pytest

from repositories import git
from repositories.git import store as stores
from repositories.tests.make import commit_upstream, make_bench, make_upstream, plain_git, write

MOST = 100 * 1024**2


def forget_history(upstream: Path) -> None:
    """Let main be another history, as a force-push does."""
    plain_git("checkout", "-q", "--orphan", "other", cwd=upstream)
    commit_upstream(upstream, {"README.md": "another history\n"})
    plain_git("branch", "-q", "-M", "other", "main", cwd=upstream)


def test_a_commit_that_no_branch_leads_to_is_fetched_by_its_name(tmp_path: Path) -> None:
    upstream = make_upstream(tmp_path / "upstream")
    old = plain_git("rev-parse", "HEAD", cwd=upstream)
    forget_history(upstream)
    mirror, remote = tmp_path / "mirror.git", git.Remote(str(upstream))
    assert git.absent_commits(mirror, [old]) == [old]
    git.ensure_mirror(mirror, remote, max_bytes=MOST)
    assert git.absent_commits(mirror, [old]) == [old]
    git.fetch_commit(mirror, remote, old, max_bytes=MOST)
    assert git.absent_commits(mirror, [old]) == []
    assert git.show_file(mirror, old, "README.md", max_bytes=100) == b"# Sample\n"
    git.ensure_mirror(mirror, remote, max_bytes=MOST)
    assert git.absent_commits(mirror, [old]) == []
    assert [branch.name for branch in git.list_branches(mirror)] == ["main"]


def test_a_commit_that_upstream_does_not_have_is_refused(tmp_path: Path) -> None:
    upstream = make_upstream(tmp_path / "upstream")
    mirror, remote = tmp_path / "mirror.git", git.Remote(str(upstream))
    git.ensure_mirror(mirror, remote, max_bytes=MOST)
    for name in ("0" * 40, "HEAD", "--upload-pack=touch"):
        with pytest.raises(git.GitFailed):
            git.fetch_commit(mirror, remote, name, max_bytes=MOST)


def test_only_commits_count_as_there(tmp_path: Path) -> None:
    bench = make_bench(tmp_path / "var", make_upstream(tmp_path / "upstream"))
    tree = stores.tree_of(bench.mirror, bench.base)
    assert git.absent_commits(bench.store, [tree, bench.base, "0" * 40]) == [tree, "0" * 40]
    with pytest.raises(git.GitFailed):
        git.absent_commits(bench.store, ["HEAD"])


def test_a_final_commit_goes_to_another_store_alone(tmp_path: Path) -> None:
    upstream = make_upstream(tmp_path / "upstream")
    bench = make_bench(tmp_path / "var", upstream)
    write(bench.tree, {"src/app.py": "new\n"})
    output = bench.hand_over()
    made = git.accept_checkpoint(bench.store, output, previous=bench.base)
    final = git.final_commit(bench.store, bench.base, made.commit, message="All of it",
                             author_name="Ada", author_email="ada@example.com")  # fmt: skip
    pack = git.pack_commit(bench.store, final)
    other = make_bench(tmp_path / "other", upstream)
    facts = {"commit": final, "tree": made.tree, "parent": bench.base}
    with pytest.raises(git.CheckpointBad):
        git.accept_final(other.store, pack, **facts)
    git.accept_checkpoint(
        other.store, f"{made.commit} {made.tree}\n".encode() + made.pack, previous=bench.base
    )
    for wrong in ({"parent": made.commit}, {"tree": stores.tree_of(bench.store, bench.base)}):
        with pytest.raises(git.CheckpointBad):
            git.accept_final(other.store, pack, **(facts | wrong))
    with pytest.raises(git.CheckpointBad):
        git.accept_final(other.store, made.pack, **facts)
    git.accept_final(other.store, pack, **facts)
    assert git.diff(other.store, bench.base, final, max_bytes=10**6) == git.diff(
        bench.store, bench.base, final, max_bytes=10**6
    )
