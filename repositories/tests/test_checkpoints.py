"""A work tree goes out as a checkpoint and comes back the same, whatever was done to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from repositories import git
from repositories.tests.make import Bench, make_bench, make_upstream, plain_git, write

FILES: dict[str, str | bytes] = {
    "README.md": "# Sample\n",
    "src/app.py": "one = 1\n",
    "src/deep/er/x.txt": "x\n",
    "old.txt": "old\n",
    "run.sh": "#!/bin/sh\n",
    "data.bin": bytes(range(256)),
    ".gitignore": "build/\n*.log\n",
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path / "var", make_upstream(tmp_path / "upstream", FILES))


def came_back(bench: Bench) -> dict[str, bytes | str]:
    """Checkpoint, lose the tree, restore it; return what it holds then."""
    bench.checkpoint()
    bench.fresh_tree()
    bench.restore()
    return bench.paths()


def test_untouched_tree_makes_no_new_checkpoint(bench: Bench) -> None:
    made = bench.checkpoint()
    assert (made.commit, made.is_new) == (bench.base, False)


def test_change_goes_out_and_comes_back(bench: Bench) -> None:
    write(bench.tree, {"src/app.py": "one = 2\n", "new/file.txt": "x", "old.txt": None})
    before = bench.paths()
    made = bench.checkpoint()
    bench.fresh_tree()
    bench.restore()
    assert made.is_new
    assert bench.paths() == before
    files = {
        file.path: file.status for file in git.changed_files(bench.store, bench.base, made.commit)
    }
    assert files == {"src/app.py": "modified", "new/file.txt": "added", "old.txt": "deleted"}


def rename(tree: Path) -> None:
    (tree / "src/app.py").rename(tree / "src/main.py")


def replace_folder_by_file(tree: Path) -> None:
    shutil.rmtree(tree / "src")
    (tree / "src").write_text("now a file\n")


def replace_file_by_folder(tree: Path) -> None:
    (tree / "old.txt").unlink()
    write(tree, {"old.txt/inner.txt": "x"})


def link(tree: Path) -> None:
    (tree / "old.txt").unlink()
    (tree / "old.txt").symlink_to("README.md")
    (tree / "outside").symlink_to("/etc/passwd")
    (tree / "nowhere").symlink_to("../../../nowhere")


def binary(tree: Path) -> None:
    write(tree, {"data.bin": bytes(range(255, -1, -1)) * 50, "zero.bin": b"\0" * 100_000})


def strange_names(tree: Path) -> None:
    write(tree, {"naïve — ümläut/日本.txt": "x", " leading space": "x", "quote\"d'.txt": "x",
                 "-rf": "x", "--upload-pack=touch": "x", ":(exclude)x": "x", "*.py": "x",
                 "back\\slash": "x", "#hash": "x", "a" * 255: "x"})  # fmt: skip


def not_unicode(tree: Path) -> None:
    path = os.fsencode(tree) + b"/latin-\xe9.txt"
    with open(path, "wb") as file:  # noqa: PTH123 - a path of bytes
        file.write(b"caf\xe9\n")


def everything_deleted(tree: Path) -> None:
    for path in tree.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def line_ends(tree: Path) -> None:
    write(tree, {"dos.txt": "a\r\nb\r\n", "mixed.txt": "a\nb\r\nc", "src/app.py": "one = 1\r\n"})


@pytest.mark.parametrize(
    "change",
    [rename, replace_folder_by_file, replace_file_by_folder, link, binary, strange_names,
     not_unicode, everything_deleted, line_ends],
)  # fmt: skip
def test_tree_comes_back_the_same(bench: Bench, change: Callable[[Path], None]) -> None:
    change(bench.tree)
    before = bench.paths()
    assert came_back(bench) == before


def test_executable_bit_comes_back(bench: Bench) -> None:
    (bench.tree / "run.sh").chmod(0o755)
    came_back(bench)
    assert (bench.tree / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (bench.tree / "old.txt").stat().st_mode & 0o111 == 0


def test_ignored_files_stay_out(bench: Bench) -> None:
    write(bench.tree, {"build/out.o": "x", "run.log": "x", "src/__pycache__/app.pyc": "x",
                       "node_modules/x/index.js": "x", "kept.txt": "x"})  # fmt: skip
    made = bench.checkpoint()
    files = [file.path for file in git.changed_files(bench.store, bench.base, made.commit)]
    assert files == ["kept.txt"]


def test_empty_folder_alone_is_no_change(bench: Bench) -> None:
    (bench.tree / "empty").mkdir()
    assert not bench.checkpoint().is_new


def test_checkpoints_form_a_chain(bench: Bench) -> None:
    commits = [bench.base]
    for number in range(3):
        write(bench.tree, {f"step{number}.txt": str(number)})
        commits.append(bench.checkpoint().commit)
    chain = plain_git("rev-list", "--first-parent", commits[-1], cwd=bench.store).split()
    assert chain == commits[::-1]


def test_change_and_back_is_the_base_tree_again(bench: Bench) -> None:
    write(bench.tree, {"src/app.py": "one = 2\n"})
    bench.checkpoint()
    write(bench.tree, {"src/app.py": "one = 1\n"})
    made = bench.checkpoint()
    assert made.is_new
    assert git.diff(bench.store, bench.base, made.commit, max_bytes=1000) == ""


def test_change_of_same_size_in_the_same_second_is_seen(bench: Bench) -> None:
    for letter in "abcdef":
        write(bench.tree, {"same.txt": f"{letter}\n"})
        made = bench.checkpoint()
        assert (
            git.show_file(bench.store, made.commit, "same.txt", max_bytes=9)
            == f"{letter}\n".encode()
        )


def test_same_state_makes_the_same_commit(bench: Bench) -> None:
    write(bench.tree, {"new.txt": "x"})
    first = bench.hand_over()
    shutil.rmtree(bench.private)
    assert bench.hand_over().split(b"\n")[0] == first.split(b"\n")[0]


def test_what_the_agent_sees_of_git_stays(bench: Bench) -> None:
    write(bench.tree, {"new.txt": "x"})
    seen = [plain_git(*args, cwd=bench.tree) for args in VIEWS]
    index = (bench.tree / ".git/index").read_bytes()
    bench.checkpoint()
    assert (bench.tree / ".git/index").read_bytes() == index
    assert [plain_git(*args, cwd=bench.tree) for args in VIEWS] == seen


VIEWS = (
    ("status", "--porcelain"),
    ("for-each-ref",),
    ("log", "--oneline"),
    ("symbolic-ref", "HEAD"),
)


def no_git(tree: Path) -> None:
    shutil.rmtree(tree / ".git")


def git_is_a_file(tree: Path) -> None:
    no_git(tree)
    (tree / ".git").write_text("gitdir: /nowhere\n")


def broken_index(tree: Path) -> None:
    (tree / ".git/index").write_bytes(b"DIRC" + b"\xff" * 50)


def locked_index(tree: Path) -> None:
    (tree / ".git/index.lock").touch()


def index_is_a_link(tree: Path) -> None:
    (tree / ".git/index").unlink()
    (tree / ".git/index").symlink_to("/dev/zero")


def lying_index(tree: Path) -> None:
    plain_git("update-index", "--assume-unchanged", "src/app.py", cwd=tree)
    plain_git("update-index", "--skip-worktree", "old.txt", cwd=tree)


def staged_otherwise(tree: Path) -> None:
    write(tree, {"src/app.py": "staged\n", "staged.txt": "x"})
    plain_git("add", "-A", cwd=tree)
    (tree / "staged.txt").unlink()


def committed_on_a_branch(tree: Path) -> None:
    plain_git("checkout", "-q", "-b", "mine", cwd=tree)
    write(tree, {"src/app.py": "committed\n"})
    plain_git("commit", "-qam", "mine", cwd=tree)


def merge_conflict(tree: Path) -> None:
    plain_git("checkout", "-q", "-b", "side", cwd=tree)
    write(tree, {"README.md": "side\n"})
    plain_git("commit", "-qam", "side", cwd=tree)
    plain_git("checkout", "-q", "work", cwd=tree)
    write(tree, {"README.md": "main\n"})
    plain_git("commit", "-qam", "main", cwd=tree)
    with pytest.raises(Exception, match="merge"):
        plain_git("merge", "side", cwd=tree)


def hostile_settings(tree: Path) -> None:
    for setting in ("core.bare=true", "core.worktree=/nowhere", "core.autocrlf=true",
                    "core.sparseCheckout=true", "core.ignoreCase=true", "core.fileMode=false",
                    "core.excludesFile=/dev/stdin", "core.attributesFile=/nowhere"):  # fmt: skip
        plain_git("config", *setting.split("=", 1), cwd=tree)
    write(tree, {".git/info/exclude": "*\n", ".git/info/attributes": "* filter=x text eol=crlf\n",
                 ".git/info/sparse-checkout": "/nothing\n"})  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [no_git, git_is_a_file, broken_index, locked_index, index_is_a_link, lying_index,
     staged_otherwise, committed_on_a_branch, merge_conflict, hostile_settings],
)  # fmt: skip
def test_nothing_done_to_git_changes_the_checkpoint(
    bench: Bench, damage: Callable[[Path], None]
) -> None:
    damage(bench.tree)
    write(bench.tree, {"src/app.py": "one = 2\n", "old.txt": "new\n", "new.txt": "x\n"})
    before = bench.paths()
    assert came_back(bench) == before


def test_script_survives_a_cleaned_tmp(bench: Bench) -> None:
    write(bench.tree, {"one.txt": "1"})
    bench.checkpoint()
    shutil.rmtree(bench.private)
    write(bench.tree, {"two.txt": "2"})
    made = bench.checkpoint()
    paths = [file.path for file in git.changed_files(bench.store, bench.base, made.commit)]
    assert paths == ["one.txt", "two.txt"]


def test_nested_repository_is_left_out_and_named(bench: Bench) -> None:
    write(bench.tree, {"sub/a.txt": "x", "kept.txt": "x", "bare sub/b.txt": "x"})
    for name in ("sub", "bare sub"):
        plain_git("init", "-q", cwd=bench.tree / name)
    plain_git("add", "-A", cwd=bench.tree / "sub")
    plain_git("commit", "-qm", "x", cwd=bench.tree / "sub")
    made = bench.checkpoint()
    paths = [file.path for file in git.changed_files(bench.store, bench.base, made.commit)]
    assert paths == ["kept.txt"]
    assert "nested repository left out: sub" in bench.errors


def test_repository_made_in_a_tracked_folder_keeps_its_files(bench: Bench) -> None:
    plain_git("init", "-q", cwd=bench.tree / "src")
    write(bench.tree, {"src/app.py": "one = 2\n", "src/new.py": "x\n"})
    made = bench.checkpoint()
    paths = [file.path for file in git.changed_files(bench.store, bench.base, made.commit)]
    assert paths == ["src/app.py", "src/new.py"]


def test_special_files_are_left_out(bench: Bench) -> None:
    os.mkfifo(bench.tree / "pipe")
    (bench.tree / "old.txt").unlink()
    os.mkfifo(bench.tree / "old.txt")
    write(bench.tree, {"new.txt": "x"})
    made = bench.checkpoint()
    files = {
        file.path: file.status for file in git.changed_files(bench.store, bench.base, made.commit)
    }
    assert files["new.txt"] == "added"
    assert "pipe" not in files


@pytest.mark.parametrize("name", [".GIT/config", "sub/.Git/config", "sub/.git", "git~1/x"])
def test_names_that_git_reserves_are_left_out(bench: Bench, name: str) -> None:
    write(bench.tree, {name: "x", "kept.txt": "x"})
    made = bench.checkpoint()
    paths = [file.path for file in git.changed_files(bench.store, bench.base, made.commit)]
    assert paths == ["kept.txt"]


def test_submodule_of_the_upstream_stays_as_it_was(tmp_path: Path) -> None:
    upstream = make_upstream(tmp_path / "upstream")
    commit = plain_git("rev-parse", "HEAD", cwd=upstream)
    plain_git("update-index", "--add", "--cacheinfo", f"160000,{commit},module", cwd=upstream)
    write(
        upstream, {".gitmodules": '[submodule "m"]\n\tpath = module\n\turl = https://x.invalid/\n'}
    )
    plain_git("add", ".gitmodules", cwd=upstream)
    plain_git("commit", "-qm", "module", cwd=upstream)
    bench = make_bench(tmp_path / "var", upstream)
    assert not bench.checkpoint().is_new
    write(bench.tree, {"module/inner.txt": "x", "new.txt": "x"})
    plain_git("init", "-q", cwd=bench.tree / "module")
    plain_git("add", "-A", cwd=bench.tree / "module")
    plain_git("commit", "-qm", "x", cwd=bench.tree / "module")
    made = bench.checkpoint()
    assert [file.path for file in git.changed_files(bench.store, bench.base, made.commit)] == [
        "new.txt"
    ]


def test_restore_refuses_what_it_cannot_find(bench: Bench) -> None:
    done = bench.script(git.RESTORE_SCRIPT, "1" * 40)
    assert done.returncode != 0
    assert b"restored" not in done.stdout


@pytest.mark.parametrize("commit", ["", "HEAD", "--all", "1" * 40])
def test_script_refuses_an_unknown_previous(bench: Bench, commit: str) -> None:
    done = bench.script(git.CHECKPOINT_SCRIPT, commit)
    assert done.returncode != 0
    assert done.stdout == b""
