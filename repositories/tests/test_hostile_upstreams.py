"""Hostile repositories at the other end: every attack fires on plain git, none on ours.

The oracle is a marker file. Each attack prepares something and names two doings: what a person
would do with plain git (the control, which must make the marker), and what the platform does.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from asynccoder.tests import cpu
from repositories import git
from repositories.tests.forged import Forge, exponential
from repositories.tests.make import (
    FILES,
    ME,
    commit_upstream,
    plain_git,
    write,
)
from repositories.tests.upstreams import (
    ATTACKS,
    Scene,
    configured,
    give_a_second_commit,
    literally,
    make_scene,
)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


@pytest.mark.parametrize("name", ATTACKS)
def test_upstream_executes_nothing(scene: Scene, name: str) -> None:
    carelessly = ATTACKS[name](scene)
    give_a_second_commit(scene)
    scene.marker.unlink(missing_ok=True)
    with contextlib.suppress(git.GitFailed):
        scene.whole_service()
    assert not scene.marker.exists(), "the attack fired"
    carelessly()
    assert scene.marker.exists(), "the control did not fire, so the test proves nothing"


def test_whole_service_works_on_an_honest_upstream(scene: Scene) -> None:
    commit_upstream(scene.upstream, {"README.md": "changed\n"})
    scene.whole_service()
    assert plain_git("rev-parse", "asynccoder/x", cwd=scene.upstream)


def test_links_in_a_tree_stay_links(scene: Scene) -> None:
    secret = scene.folder / "secret"
    secret.mkdir()
    (secret / "key").write_text("canary")
    (scene.upstream / "inside").symlink_to(secret)
    (scene.upstream / "absolute").symlink_to(secret / "key")
    commit_upstream(scene.upstream, {})
    owner = secret.stat()
    head = scene.fetch()
    base = git.build_base(scene.mirror, head, scene.folder / "var/bases", owner=ME)
    assert (base / "inside").is_symlink()
    assert (secret.stat().st_uid, secret.stat().st_mtime) == (owner.st_uid, owner.st_mtime)
    assert git.show_file(scene.mirror, head, "inside/key", max_bytes=100) is None
    assert b"canary" not in (git.show_file(scene.mirror, head, "absolute", max_bytes=100) or b"")


def test_filter_named_by_the_tree_is_not_run(scene: Scene) -> None:
    commit_upstream(scene.upstream, {".gitattributes": "* filter=lfs diff=lfs merge=lfs\n",
                                     ".lfsconfig": "[lfs]\n\turl = https://127.0.0.1:9/\n",
                                     "big.bin": "version https://git-lfs.github.com/spec/v1\n"})  # fmt: skip
    base = git.build_base(scene.mirror, scene.fetch(), scene.folder / "var/bases", owner=ME)
    assert (base / "big.bin").read_text().startswith("version https://git-lfs")


@pytest.mark.parametrize("name", [".git", ".GIT", "git~1", ".git ", "..", "."])
def test_tree_with_a_forbidden_name_is_not_fetched(scene: Scene, name: str) -> None:
    def tree(forge: Forge) -> str:
        return forge.tree(("40000", name, forge.tree(("100644", "config", forge.blob()))))

    literally(scene, tree)
    control = scene.folder / "control.git"
    plain_git("clone", "-q", "--bare", str(scene.upstream), str(control), cwd=scene.folder)
    with pytest.raises(git.CloneFailed, match="unsafe objects"):
        scene.fetch()
    assert not scene.mirror.exists()


def test_tree_that_names_a_billion_files_is_never_written(scene: Scene) -> None:
    literally(scene, lambda forge: exponential(forge, ""))
    with cpu.at_most(60):
        head = scene.fetch()
        with pytest.raises(git.RepositoryTooLarge):
            git.build_base(scene.mirror, head, scene.folder / "var/bases", owner=ME)
        for ask in (
            lambda: git.list_tree(scene.mirror, head),
            lambda: git.changed_files(
                scene.mirror, plain_git("rev-parse", f"{head}~", cwd=scene.mirror), head
            ),
        ):
            with pytest.raises(git.GitFailed):
                ask()


@pytest.mark.parametrize("name", ["-x", "--upload-pack=x", "HEAD", "a..b", "x.lock", "@{1}", "a b"])
def test_odd_branches_of_an_upstream_are_not_offered(scene: Scene, name: str) -> None:
    packed = f"{plain_git('rev-parse', 'main', cwd=scene.upstream)} refs/heads/{name}\n"
    write(scene.upstream, {".git/packed-refs": packed})
    try:
        scene.fetch()
    except git.CloneFailed:
        return
    assert [branch.name for branch in git.list_branches(scene.mirror)] == ["main"]
    with pytest.raises(git.BranchMissing):
        git.resolve_commit(scene.mirror, name)


def test_alternates_of_a_store_are_only_the_mirrors(scene: Scene) -> None:
    scene.fetch()
    git.create_store(scene.store, scene.mirror)
    git.create_store(scene.store, scene.mirror)
    assert git.borrowed_from(scene.store) == (scene.store, scene.mirror)


def test_push_instead_of_in_a_tree_or_upstream_changes_no_destination(scene: Scene) -> None:
    trap = scene.folder / "trap.git"
    plain_git("init", "-q", "--bare", str(trap), cwd=scene.folder)
    configured(
        f"url.{trap}.pushInsteadOf={scene.upstream}", f"url.{trap}.insteadOf={scene.upstream}"
    )(scene)
    commit_upstream(scene.upstream, FILES | {".gitconfig": f'[url "{trap}"]\n\tinsteadOf = /\n'})
    scene.whole_service()
    assert plain_git("for-each-ref", cwd=trap) == ""
    scene.plainly(f"git push -q {scene.upstream} HEAD:refs/heads/asynccoder/y")
    assert plain_git("for-each-ref", cwd=trap) != ""
