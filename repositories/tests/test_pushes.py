"""What leaves: one commit to one branch of our own, once, and only over what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from repositories import git
from repositories.tests.git_server import GitServer, serving
from repositories.tests.make import Bench, make_bench, make_upstream, plain_git, write

BRANCH = "asynccoder/1234-fix"


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return make_upstream(tmp_path / "upstream")


@pytest.fixture
def bench(tmp_path: Path, upstream: Path) -> Bench:
    return make_bench(tmp_path / "var", upstream)


@pytest.fixture
def server(tmp_path: Path, upstream: Path) -> Iterator[GitServer]:
    plain_git(
        "clone", "-q", "--bare", str(upstream), str(tmp_path / "served/app.git"), cwd=tmp_path
    )
    with serving(tmp_path / "served") as served:
        served.password = "right"
        yield served


def remote(server: GitServer, secret: str = "right") -> git.Remote:
    return git.Remote(
        server.url("app.git"),
        git.Credential("ada", secret),
        "127.0.0.1",
        is_plain_http_allowed=True,
    )


def final(
    bench: Bench, *, content: str = "one = 2\n", name: str = "Ada", message: str = "Fix it"
) -> str:
    write(bench.tree, {"src/app.py": content})
    made = bench.checkpoint()
    return git.final_commit(
        bench.store, bench.base, made.commit, message=message, author_name=name,
        author_email="ada@example.com",
    )  # fmt: skip


def test_final_commit_is_the_users_on_the_base(bench: Bench) -> None:
    commit = final(bench)
    shown = plain_git("show", "-s", "--format=%P|%an <%ae>|%cn|%s", commit, cwd=bench.store)
    assert shown == f"{bench.base}|Ada <ada@example.com>|Async Coder|Fix it"


def test_final_commit_asked_again_is_the_same(bench: Bench) -> None:
    commit = final(bench)
    again = git.final_commit(
        bench.store, bench.base, commit, message="Fix it", author_name="Ada", author_email="x@y"
    )
    other = git.final_commit(
        bench.store, bench.base, commit, message="Other", author_name="Ada", author_email="x@y"
    )
    assert again == commit
    assert other != commit


@pytest.mark.parametrize("name", ["", "<>", "a\nauthor x", "--help", "Ada <x@y> 1 +0000", "日本"])
def test_odd_author_makes_a_sound_commit(bench: Bench, name: str) -> None:
    commit = final(bench, name=name, message="\0-x\n\nparent " + "0" * 40)
    plain_git("fsck", "--strict", cwd=bench.store)
    assert plain_git("show", "-s", "--format=%P", commit, cwd=bench.store) == bench.base


def test_push_makes_the_branch(bench: Bench, server: GitServer) -> None:
    commit = final(bench)
    git.push_branch(bench.store, remote(server), commit, BRANCH, expected=None)
    served = server.root / "app.git"
    assert plain_git("rev-parse", BRANCH, cwd=served) == commit
    assert plain_git("rev-parse", "main", cwd=served) == bench.base
    assert git.remote_branch(bench.store, remote(server), BRANCH) == commit
    assert git.remote_branch(bench.store, remote(server), "asynccoder/other") is None


def test_push_that_was_done_before_is_a_success_without_a_push(
    bench: Bench, server: GitServer
) -> None:
    commit = final(bench)
    git.push_branch(bench.store, remote(server), commit, BRANCH, expected=None)
    server.seen.clear()
    git.push_branch(bench.store, remote(server), commit, BRANCH, expected=None)
    assert not any("receive-pack" in seen.path for seen in server.seen)


def test_push_that_a_killed_try_has_overtaken_is_a_success(bench: Bench, server: GitServer) -> None:
    commit = final(bench)
    # Runs between our look and the remote's comparison: there the other push arrives.
    hook = server.root / "app.git/hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ngit update-ref "$1" "$3"\n')
    hook.chmod(0o755)
    git.push_branch(bench.store, remote(server), commit, BRANCH, expected=None)
    assert plain_git("rev-parse", BRANCH, cwd=server.root / "app.git") == commit


def test_push_over_what_was_expected(bench: Bench, server: GitServer) -> None:
    first = final(bench)
    git.push_branch(bench.store, remote(server), first, BRANCH, expected=None)
    second = final(bench, content="one = 3\n")
    with pytest.raises(git.PushRefused):
        git.push_branch(bench.store, remote(server), second, BRANCH, expected=None)
    git.push_branch(bench.store, remote(server), second, BRANCH, expected=first)
    assert git.remote_branch(bench.store, remote(server), BRANCH) == second


def test_somebody_elses_work_is_never_overwritten(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = final(bench)
    plain_git("update-ref", f"refs/heads/{BRANCH}", bench.base, cwd=server.root / "app.git")
    with pytest.raises(git.PushRefused, match="Somebody else"):
        git.push_branch(bench.store, remote(server), commit, BRANCH, expected=None)
    # Even one who came between our look and our push: the remote compares.
    monkeypatch.setattr("repositories.git.push.remote_branch", lambda *_: None)
    with pytest.raises(git.PushRefused, match="stale"):
        git.push_branch(bench.store, remote(server), commit, BRANCH, expected=None)
    assert plain_git("rev-parse", BRANCH, cwd=server.root / "app.git") == bench.base


@pytest.mark.parametrize(
    "branch",
    ["main", "refs/heads/main", "asynccoder", "asynccoder/", "asynccoder/../main", "asynccoder/a b",
     "asynccoder/x:main", "asynccoder/x.lock", "-f", "asynccoder//x", "+asynccoder/x", "asynccoder/a..b",
     "asynccoder/x\n", "asynccoder/\x1b[0m", "ASYNCCODER/x"],
)  # fmt: skip
def test_no_other_branch_is_pushed(bench: Bench, server: GitServer, branch: str) -> None:
    commit = final(bench)
    with pytest.raises(git.PushRefused):
        git.push_branch(bench.store, remote(server), commit, branch, expected=None)
    assert server.seen == []


def test_wrong_credential_for_a_push(bench: Bench, server: GitServer) -> None:
    with pytest.raises(git.AuthenticationFailed) as caught:
        git.push_branch(bench.store, remote(server, "wrong"), final(bench), BRANCH, expected=None)
    assert "wrong" not in caught.value.detail


def test_hook_of_the_remote_that_declines_is_told(bench: Bench, server: GitServer) -> None:
    hook = server.root / "app.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(git.PushRefused, match="pre-receive hook declined"):
        git.push_branch(bench.store, remote(server), final(bench), BRANCH, expected=None)


def test_push_to_a_local_repository(bench: Bench, upstream: Path) -> None:
    commit = final(bench)
    git.push_branch(bench.store, git.Remote(str(upstream)), commit, BRANCH, expected=None)
    assert plain_git("rev-parse", BRANCH, cwd=upstream) == commit


def test_bundle_holds_the_work(bench: Bench, tmp_path: Path, upstream: Path) -> None:
    commit = final(bench)
    git.write_bundle(bench.store, bench.base, commit, tmp_path / "work.bundle", branch=BRANCH)
    plain_git("fetch", "-q", str(tmp_path / "work.bundle"), f"{BRANCH}:{BRANCH}", cwd=upstream)
    assert plain_git("rev-parse", BRANCH, cwd=upstream) == commit


def test_given_patch_becomes_a_commit(bench: Bench) -> None:
    patch = (
        "--- a/src/app.py\n+++ b/src/app.py\n@@ -1,2 +1,2 @@\n-def add(a, b):\n+def add(a, c):\n"
        "     return a + b\n"
    )
    commit = git.apply_patch_tree(bench.store, bench.base, patch)
    assert git.changed_lines(bench.store, bench.base, commit) == {"src/app.py": frozenset({1})}
    assert git.apply_patch_tree(bench.store, bench.base, patch) == commit


NEW = "diff --git a/{0} b/{0}\nnew file mode {1}\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+x\n"


@pytest.mark.parametrize(
    "patch",
    ["", "no patch", NEW.format("../outside", "100644"), NEW.format(".git/hooks/x", "100755"),
     NEW.format("sub/.GIT/config", "100644"), NEW.format("sub", "160000"),
     "--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-x\n+y\n",
     "--- a/src/app.py\n+++ b/src/app.py\n@@ -1 +1 @@\n-other\n+y\n"],
)  # fmt: skip
def test_unfit_patch_is_refused(bench: Bench, patch: str) -> None:
    with pytest.raises(git.PatchRefused) as caught:
        git.apply_patch_tree(bench.store, bench.base, patch)
    assert str(bench.store) not in str(caught.value)
    assert list(bench.store.glob("patch-*")) == []
