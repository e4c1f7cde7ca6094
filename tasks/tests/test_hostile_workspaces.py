"""Hostile work trees: what an agent may leave in its workspace never runs on the host.

Each attack is made inside a real sandbox. The platform then does everything that it does with a
workspace; the marker, a file on the host, must not appear. The control does with a copy of the
same tree what a careless platform would do, and the marker must appear.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from repositories import git
from repositories.tests.make import make_upstream, plain_git
from tasks.sandbox.base import Command, Limits
from tasks.tests.workspaces import ATTACKS, CHANGE, Scene, carelessly, inside, make_scene, taken_out


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_of_a_workspace_runs_on_the_host(scene: Scene, name: str) -> None:
    prepare, careless = ATTACKS[name]
    evil = f"touch {scene.marker}"
    with scene.sandbox() as sandbox:
        text = prepare.replace("EVIL", evil).replace("MIRROR", str(scene.mirror))
        inside(sandbox, text)
        inside(sandbox, "cd /workspace; echo always > changed.txt")
        scene.serve(sandbox)
        assert not scene.marker.exists(), "the attack fired on the host"
        assert plain_git("show", "asynccoder/x:changed.txt", cwd=scene.upstream) == "always"
        copy = taken_out(sandbox, scene.folder / "copy")
    carelessly(careless, copy)
    assert scene.marker.exists(), "the control did not fire, so the test proves nothing"


def test_links_leave_as_text_and_never_as_what_they_point_to(scene: Scene) -> None:
    secret = scene.folder / "secret.txt"
    secret.write_text("canary-of-the-host")
    with scene.sandbox() as sandbox:
        inside(sandbox, f"ln -s {secret} link; ln -s /proc/self/environ env; ln -s / root")
        head = scene.checkpoint(sandbox).commit
        copy = taken_out(sandbox, scene.folder / "copy")
    shown = git.diff(scene.store, scene.base, head, max_bytes=10**6)
    assert f"+{secret}" in shown
    assert "canary-of-the-host" not in shown
    assert git.show_file(scene.store, head, "root/etc/passwd", max_bytes=10**6) is None
    assert (copy / "link").read_text() == "canary-of-the-host", "the control follows the link"


def test_alternates_reach_no_other_tenants_objects(scene: Scene, tmp_path: Path) -> None:
    other = make_upstream(tmp_path / "other-tenant", {"private.txt": "canary-of-a-tenant"})
    blob = plain_git("rev-parse", "HEAD:private.txt", cwd=other)
    borrow = f"echo {other}/.git/objects >> .git/objects/info/alternates"
    stage = f"git update-index --add --cacheinfo 100644,{blob},stolen.txt"
    with scene.sandbox() as sandbox:
        inside(sandbox, f"{borrow}; {stage}; git checkout-index stolen.txt || true")
        head = scene.checkpoint(sandbox).commit
        copy = taken_out(sandbox, scene.folder / "copy")
    assert "canary" not in git.diff(scene.store, scene.base, head, max_bytes=10**6)
    carelessly("git checkout-index -f stolen.txt", copy)
    assert (copy / "stolen.txt").read_text() == "canary-of-a-tenant", "the control steals it"


def test_push_goes_where_we_say_not_where_the_workspace_says(scene: Scene, tmp_path: Path) -> None:
    trap = tmp_path / "trap.git"
    plain_git("init", "-q", "--bare", str(trap), cwd=tmp_path)
    redirect = f"git config url.{trap}.pushInsteadOf {scene.upstream}"
    with scene.sandbox() as sandbox:
        inside(sandbox, f"{redirect}; {CHANGE}")
        scene.serve(sandbox)
        copy = taken_out(sandbox, scene.folder / "copy")
    assert plain_git("for-each-ref", cwd=trap) == ""
    carelessly(f"git push {scene.upstream} HEAD:refs/heads/x", copy)
    assert plain_git("for-each-ref", cwd=trap) != "", "the control is redirected"


def test_workspace_comes_back_in_a_new_sandbox(scene: Scene) -> None:
    change = (
        "echo two >> a.txt; rm README.md; mkdir -p deep/er; echo x > deep/er/x; ln -s a.txt l;"
        " printf '\\0\\1\\2' > bin; echo x > 'ünï code'; chmod +x sub/b.txt; mv sub moved;"
        " rm -rf .git; echo ignored > x.pyc"
    )
    listing = "find . -path ./.git -prune -o -type f -printf '%P %m ' -exec md5sum {} \\; | sort"
    look = Command(["bash", "-c", f"{listing}; readlink l"])
    with scene.sandbox() as sandbox:
        inside(sandbox, change)
        assert scene.checkpoint(sandbox).is_new
        assert not scene.checkpoint(sandbox).is_new
        inside(sandbox, "rm x.pyc; echo three >> a.txt")
        scene.checkpoint(sandbox)
        before = sandbox.run(look).text
    with scene.sandbox() as sandbox:
        scene.script(sandbox, git.RESTORE_SCRIPT, scene.previous)
        assert sandbox.run(look).text == before
        assert not scene.checkpoint(sandbox).is_new


def test_agent_works_with_git_as_usual(scene: Scene) -> None:
    with scene.sandbox() as sandbox:
        inside(sandbox, "git status --porcelain | wc -l | grep -qx 0; git log --oneline -1")
        inside(sandbox, f"git checkout -qb mine; {CHANGE}; git commit -qam mine; git stash list")
        made = scene.checkpoint(sandbox)
        inside(sandbox, "git symbolic-ref HEAD | grep -qx refs/heads/mine; git diff --quiet")
    paths = [file.path for file in git.changed_files(scene.store, scene.base, made.commit)]
    assert paths == ["a.txt"]


def test_unreadable_files_are_left_out_and_named(scene: Scene) -> None:
    with scene.sandbox() as sandbox:
        inside(sandbox, "echo x > locked; chmod 000 locked; mkdir shut; echo x > shut/x;"
               " chmod 000 shut; echo kept > kept.txt")  # fmt: skip
        made = scene.checkpoint(sandbox)
    paths = [file.path for file in git.changed_files(scene.store, scene.base, made.commit)]
    assert paths == ["kept.txt"]
    assert "locked" in scene.errors


def test_changes_that_find_no_room_fail_loudly(scene: Scene) -> None:
    argv = ["bash", "-c", git.CHECKPOINT_SCRIPT, "x", scene.base]
    argv += map(str, git.borrowed_from(scene.store))
    with scene.sandbox(Limits(tmp=2 * 1024**2)) as sandbox:
        inside(sandbox, "head -c 8000000 /dev/urandom > noise; echo x > small")
        done = sandbox.run(Command(argv, errors_apart=True))
    assert done.exit_code != 0
    assert b"no room" in done.errors


def test_workspace_over_the_limits_is_refused(scene: Scene) -> None:
    with scene.sandbox() as sandbox:
        inside(sandbox, "head -c 3000000 /dev/urandom > noise")
        output = scene.script(sandbox, git.CHECKPOINT_SCRIPT, scene.base)
    limits = git.PackLimits(pack=1_000_000)
    with pytest.raises(git.CheckpointBad, match="larger"):
        git.accept_checkpoint(scene.store, output, previous=scene.base, limits=limits)
    assert git.accept_checkpoint(scene.store, output, previous=scene.base).is_new
