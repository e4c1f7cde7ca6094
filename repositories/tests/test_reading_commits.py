"""Differences, files and trees, read from bare repositories."""

from __future__ import annotations

from pathlib import Path

import pytest

from repositories import git
from repositories.tests.make import Bench, make_bench, make_upstream, plain_git, write

FILES: dict[str, str | bytes] = {
    "a.txt": "".join(f"line {number}\n" for number in range(1, 21)),
    "gone.txt": "gone\n",
    "picture.bin": bytes(range(256)),
    "src/app.py": "one = 1\n",
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "var", make_upstream(tmp_path / "upstream", FILES))


def changed(bench: Bench, files: dict[str, str | bytes | None]) -> str:
    write(bench.tree, files)
    return bench.checkpoint().commit


def edited(*changes: tuple[int, str]) -> str:
    lines = [f"line {number}\n" for number in range(1, 21)]
    for number, text in changes:
        lines[number - 1] = text
    return "".join(lines)


def test_changed_files_with_their_counts(bench: Bench) -> None:
    head = changed(bench, {"a.txt": edited((3, "new\nmore\n")), "gone.txt": None,
                           "picture.bin": b"\0" * 9, "b.txt": "x\ny\n"})  # fmt: skip
    files = [(f.path, f.status, f.added, f.removed, f.is_binary)
             for f in git.changed_files(bench.store, bench.base, head)]  # fmt: skip
    assert files == [
        ("a.txt", "modified", 2, 1, False),
        ("b.txt", "added", 2, 0, False),
        ("gone.txt", "deleted", 0, 1, False),
        ("picture.bin", "modified", 0, 0, True),
    ]


def test_changed_lines_are_those_of_the_new_version(bench: Bench) -> None:
    head = changed(bench, {"a.txt": edited((3, "new\nmore\n"), (10, ""), (20, "last\n")),
                           "gone.txt": None, "b.txt": "x\ny\n"})  # fmt: skip
    assert git.changed_lines(bench.store, bench.base, head) == {
        "a.txt": frozenset({3, 4, 20}),
        "b.txt": frozenset({1, 2}),
    }


def test_content_that_looks_like_a_diff_fools_nobody(bench: Bench) -> None:
    lines = "++ b/other.txt\n-- a/x\n@@ -1 +900,50 @@\ndiff --git a/x b/x\n+++ b/x\n"
    head = changed(bench, {"a.txt": lines, "tail.txt": "no newline"})
    assert git.changed_lines(bench.store, bench.base, head) == {
        "a.txt": frozenset({1, 2, 3, 4, 5}),
        "tail.txt": frozenset({1}),
    }


@pytest.mark.parametrize("name", ["tab\tx", "new\nline", 'quo"te', "ünï/日本", "a b", "b/b", "-x"])
def test_changed_lines_of_strange_names(bench: Bench, tmp_path: Path, name: str) -> None:
    upstream = tmp_path / "upstream"
    write(upstream, {name: "x\ny\n"})
    plain_git("add", "-A", cwd=upstream)
    plain_git("commit", "-qm", "x", cwd=upstream)
    head = plain_git("rev-parse", "HEAD", cwd=upstream)
    source = upstream / ".git"
    assert git.changed_lines(source, bench.base, head) == {name: frozenset({1, 2})}
    assert [file.path for file in git.changed_files(source, bench.base, head)] == [name]
    assert git.show_file(source, head, name, max_bytes=10) == b"x\ny\n"


def test_diff_applies_to_the_base(bench: Bench, tmp_path: Path) -> None:
    head = changed(bench, {"a.txt": edited((3, "ünï\n")), "gone.txt": None, "new dir/b.txt": "x"})
    patch = git.diff(bench.store, bench.base, head, max_bytes=100_000)
    plain_git("apply", "-", cwd=tmp_path / "upstream", stdin=patch.encode())
    assert (tmp_path / "upstream/new dir/b.txt").read_text() == "x"


def test_diff_over_its_limit_is_cut_at_a_line_and_says_so(bench: Bench) -> None:
    head = changed(bench, {"long.txt": "".join(f"{number}\n" for number in range(100_000))})
    text = git.diff(bench.store, bench.base, head, max_bytes=5000)
    assert len(text) < 5200
    assert "cut after 5000 bytes" in text
    whole = git.diff(bench.store, bench.base, head, max_bytes=10_000_000)
    exact = len(whole.encode())
    assert git.diff(bench.store, bench.base, head, max_bytes=exact) == whole
    assert "cut after" in git.diff(bench.store, bench.base, head, max_bytes=exact - 1)


def test_symbolic_link_is_shown_as_text(bench: Bench) -> None:
    (bench.tree / "link").symlink_to("/etc/passwd")
    head = bench.checkpoint().commit
    assert "+/etc/passwd\n" in git.diff(bench.store, bench.base, head, max_bytes=1000)
    assert git.show_file(bench.store, head, "link", max_bytes=100) == b"/etc/passwd"


def test_binary_change_is_only_noted(bench: Bench) -> None:
    head = changed(bench, {"picture.bin": b"\0\1\2"})
    text = git.diff(bench.store, bench.base, head, max_bytes=1000)
    assert "Binary files a/picture.bin and b/picture.bin differ" in text


@pytest.mark.parametrize(
    "path",
    ["absent", "src", "", "/a.txt", "../a.txt", "a.txt/x", "./a.txt", "*.txt", ":/a.txt", "-p",
     ":(top)a.txt", "a\0b", "HEAD:a.txt"],
)  # fmt: skip
def test_show_file_knows_only_exact_paths_of_files(bench: Bench, path: str) -> None:
    assert git.show_file(bench.store, bench.base, path, max_bytes=10_000) is None


def test_show_file_over_its_limit_is_none(bench: Bench) -> None:
    assert git.show_file(bench.store, bench.base, "src/app.py", max_bytes=8) == b"one = 1\n"
    assert git.show_file(bench.store, bench.base, "src/app.py", max_bytes=7) is None


def test_list_tree_names_every_file(bench: Bench) -> None:
    (bench.tree / "link").symlink_to("a.txt")
    write(bench.tree, {"run.sh": "#!/bin/sh\n"})
    (bench.tree / "run.sh").chmod(0o755)
    head = bench.checkpoint().commit
    entries = {
        entry.path: (entry.kind, entry.is_executable) for entry in git.list_tree(bench.store, head)
    }
    assert entries["link"] == ("link", False)
    assert entries["run.sh"] == ("file", True)
    assert entries["src/app.py"] == ("file", False)
    assert len(entries) == 6


@pytest.mark.parametrize(
    "commit", ["HEAD", "main", "--all", "", "1" * 39, "1" * 40 + "^", "A" * 40]
)
def test_only_full_names_of_commits_are_taken(bench: Bench, commit: str) -> None:
    for ask in (
        lambda: git.diff(bench.store, bench.base, commit, max_bytes=10),
        lambda: git.changed_files(bench.store, commit, bench.base),
        lambda: git.show_file(bench.store, commit, "a.txt", max_bytes=10),
        lambda: git.list_tree(bench.store, commit),
        lambda: git.merge_base(bench.store, commit, bench.base),
        lambda: git.keep_ref(bench.store, "x", commit),
        lambda: git.build_base(bench.mirror, commit, bench.mirror.parent, owner=(0, 0)),
    ):
        with pytest.raises(git.GitFailed, match="no name of a commit"):
            ask()


def test_merge_base_of_two_branches(bench: Bench, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream"
    plain_git("checkout", "-qb", "side", cwd=upstream)
    plain_git("commit", "-q", "--allow-empty", "-m", "side", cwd=upstream)
    side = plain_git("rev-parse", "HEAD", cwd=upstream)
    plain_git("checkout", "-q", "--orphan", "alone", cwd=upstream)
    plain_git("commit", "-q", "--allow-empty", "-m", "alone", cwd=upstream)
    alone = plain_git("rev-parse", "HEAD", cwd=upstream)
    git.ensure_mirror(bench.mirror, git.Remote(str(upstream)), max_bytes=10**8)
    assert git.merge_base(bench.mirror, side, bench.base) == bench.base
    with pytest.raises(git.GitFailed, match="no common history"):
        git.merge_base(bench.mirror, alone, side)


def test_sensitive_changes_are_named() -> None:
    sensitive = [".github/workflows/ci.yml", ".GITHUB/Workflows/x.yaml", "CODEOWNERS",
                 "docs/CODEOWNERS", ".gitmodules", "sub/.gitmodules", ".gitlab-ci.yml", "Jenkinsfile",
                 ".github/actions/x/action.yml", ".circleci/config.yml"]  # fmt: skip
    harmless = ["src/app.py", "README.md", ".github/ISSUE_TEMPLATE.md", "codeowners.py"]
    assert git.sensitive_changes([*harmless, *sensitive]) == sensitive
