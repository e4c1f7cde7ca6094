"""Hostile repositories at the other end: every attack fires on plain git, none on ours.

The oracle is a marker file. Each attack prepares something and names two doings: what a person
would do with plain git (the control, which must make the marker), and what the platform does.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from repositories import git
from repositories.tests.make import (
    FILES,
    IDENTITY,
    ME,
    commit_upstream,
    make_upstream,
    plain_git,
    write,
)
from repositories.tests.test_hostile_packs import Forge, exponential


@dataclass
class Scene:
    """A folder with a hostile upstream, a marker that attacks touch, and a program that does."""

    folder: Path
    upstream: Path
    marker: Path
    program: Path

    @property
    def mirror(self) -> Path:
        return self.folder / "var/mirror.git"

    @property
    def store(self) -> Path:
        return self.folder / "var/store.git"

    def fetch(self) -> str:
        git.ensure_mirror(self.mirror, git.Remote(str(self.upstream)), max_bytes=10**8)
        return git.resolve_commit(self.mirror, "main")

    def whole_service(self) -> None:
        """Do everything that the platform does with an upstream, one after the other."""
        head = self.fetch()
        self.fetch()
        git.build_base(self.mirror, head, self.folder / "var/bases", owner=ME)
        git.create_store(self.store, self.mirror)
        parent = plain_git("rev-parse", f"{head}~1", cwd=self.mirror)
        git.diff(self.store, parent, head, max_bytes=10**6)
        git.changed_lines(self.store, parent, head)
        git.list_tree(self.store, head)
        commit = git.final_commit(
            self.store, parent, head, message="Work", author_name="A", author_email="a@b"
        )
        remote = git.Remote(str(self.upstream))
        git.push_branch(self.store, remote, commit, "asynccoder/x", expected=None)
        git.write_bundle(self.store, parent, commit, self.folder / "x.bundle")

    def plainly(self, *commands: str, cwd: Path | None = None) -> None:
        """Run shell lines as a careless person would; their failures do not matter."""
        for command in commands:
            subprocess.run(["sh", "-c", command], cwd=cwd or self.upstream, env=IDENTITY,
                           capture_output=True, timeout=60, check=False)  # fmt: skip


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    upstream = make_upstream(tmp_path / "upstream")
    marker, program = tmp_path / "MARKER", tmp_path / "evil"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    return Scene(tmp_path, upstream, marker, program)


Attack = Callable[[Scene], Callable[[], None]]
ATTACKS: dict[str, Attack] = {}


def attack(make: Attack) -> Attack:
    ATTACKS[make.__name__] = make
    return make


def configured(*settings: str) -> Callable[[Scene], None]:
    def apply(scene: Scene) -> None:
        for setting in settings:
            name, _, value = setting.partition("=")
            plain_git("config", name, value.replace("EVIL", str(scene.program)), cwd=scene.upstream)

    return apply


def hooked(scene: Scene, *names: str) -> None:
    for name in names:
        path = scene.upstream / ".git/hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(scene.program.read_text())
        path.chmod(0o755)


def push_into(scene: Scene) -> Callable[[], None]:
    def act() -> None:
        scene.plainly(
            f"git clone -q {scene.upstream} ../clone",
            "git -C ../clone push -q origin HEAD:refs/heads/other",
        )

    return act


@attack
def hook_pre_receive(scene: Scene) -> Callable[[], None]:
    hooked(scene, "pre-receive")
    return push_into(scene)


@attack
def hook_update(scene: Scene) -> Callable[[], None]:
    hooked(scene, "update")
    return push_into(scene)


@attack
def hook_post_receive(scene: Scene) -> Callable[[], None]:
    hooked(scene, "post-receive", "post-update")
    return push_into(scene)


@attack
def hook_reference_transaction(scene: Scene) -> Callable[[], None]:
    hooked(scene, "reference-transaction")
    return push_into(scene)


@attack
def hooks_path_in_the_upstreams_config(scene: Scene) -> Callable[[], None]:
    hooked(scene, "pre-receive")
    (scene.upstream / ".git/hooks").rename(scene.folder / "hooks")
    configured(f"core.hooksPath={scene.folder / 'hooks'}")(scene)
    return push_into(scene)


@attack
def proc_receive_hook(scene: Scene) -> Callable[[], None]:
    hooked(scene, "proc-receive")
    configured("receive.procReceiveRefs=refs/heads/")(scene)
    return push_into(scene)


@attack
def update_instead_with_a_filter(scene: Scene) -> Callable[[], None]:
    commit_upstream(scene.upstream, {".gitattributes": "*.txt filter=evil\n", "a.txt": "x\n"})
    configured(
        "receive.denyCurrentBranch=updateInstead",
        "filter.evil.smudge=EVIL",
        "filter.evil.clean=EVIL",
    )(scene)
    plain_git("checkout", "-q", "-b", "asynccoder/x", cwd=scene.upstream)
    plain_git("reset", "-q", "--hard", "main~1", cwd=scene.upstream)
    scene.marker.unlink(missing_ok=True)

    def act() -> None:
        scene.plainly(f"git clone -q -b main {scene.upstream} ../clone",
                      "git -C ../clone push -q origin main:asynccoder/x")  # fmt: skip

    return act


@attack
def alternate_refs_command(scene: Scene) -> Callable[[], None]:
    plain_git(
        "clone",
        "-q",
        "--bare",
        str(scene.upstream),
        str(scene.folder / "other.git"),
        cwd=scene.folder,
    )
    write(
        scene.upstream, {".git/objects/info/alternates": f"{scene.folder / 'other.git/objects'}\n"}
    )
    configured("core.alternateRefsCommand=EVIL")(scene)
    return push_into(scene)


@attack
def filter_of_a_checkout(scene: Scene) -> Callable[[], None]:
    commit_upstream(scene.upstream, {".gitattributes": "* filter=evil\n", "a.txt": "x\n"})
    configured("filter.evil.smudge=EVIL", "filter.evil.clean=EVIL", "filter.evil.process=EVIL")(
        scene
    )
    return lambda: scene.plainly("rm a.txt", "git checkout -q -- a.txt")


@attack
def textconv_of_a_diff(scene: Scene) -> Callable[[], None]:
    commit_upstream(
        scene.upstream, {".gitattributes": "*.md diff=evil\n", "README.md": "changed\n"}
    )
    configured("diff.evil.textconv=EVIL")(scene)
    return lambda: scene.plainly("git diff main~1 main")


@attack
def command_of_a_diff(scene: Scene) -> Callable[[], None]:
    commit_upstream(
        scene.upstream, {".gitattributes": "*.md diff=evil\n", "README.md": "changed\n"}
    )
    configured("diff.evil.command=EVIL")(scene)
    return lambda: scene.plainly("git diff main~1 main")


@attack
def external_diff(scene: Scene) -> Callable[[], None]:
    commit_upstream(scene.upstream, {"README.md": "changed\n"})
    configured("diff.external=EVIL")(scene)
    return lambda: scene.plainly("git diff main~1 main")


@attack
def file_system_monitor(scene: Scene) -> Callable[[], None]:
    commit_upstream(scene.upstream, {"README.md": "changed\n"})
    configured("core.fsmonitor=EVIL")(scene)
    return lambda: scene.plainly("git status")


@attack
def include_in_the_config(scene: Scene) -> Callable[[], None]:
    (scene.folder / "more").write_text(f"[core]\n\tfsmonitor = {scene.program}\n")
    configured(f"include.path={scene.folder / 'more'}")(scene)
    return lambda: scene.plainly("git status")


@attack
def signing_program(scene: Scene) -> Callable[[], None]:
    configured("commit.gpgSign=true", "gpg.program=EVIL", "user.signingKey=x")(scene)
    return lambda: scene.plainly("git commit --allow-empty -m x")


@attack
def post_commit_hook(scene: Scene) -> Callable[[], None]:
    hooked(scene, "pre-commit", "post-commit", "post-checkout")
    return lambda: scene.plainly("git commit --allow-empty -m x")


@attack
def upload_pack_option_as_a_branch(scene: Scene) -> Callable[[], None]:
    return lambda: scene.plainly(f"git fetch origin --upload-pack={scene.program}",
                                 f"git fetch {scene.upstream} --upload-pack={scene.program}")  # fmt: skip


@attack
def pack_objects_hook(scene: Scene) -> Callable[[], None]:
    configured("uploadpack.packObjectsHook=EVIL")(scene)
    glob = scene.folder / "careless.gitconfig"
    glob.write_text(f"[uploadpack]\n\tpackObjectsHook = {scene.program}\n")
    return lambda: scene.plainly(
        f"GIT_CONFIG_GLOBAL={glob} git clone -q --no-local {scene.upstream} ../clone"
    )


@attack
def template_with_hooks(scene: Scene) -> Callable[[], None]:
    hooked(scene, "post-checkout")
    template = scene.folder / "template"
    (scene.upstream / ".git/hooks").rename(template) if template.exists() else None
    (template / "hooks").mkdir(parents=True)
    (template / "hooks/post-checkout").write_text(scene.program.read_text())
    (template / "hooks/post-checkout").chmod(0o755)
    configured(f"init.templateDir={template}")(scene)
    return lambda: scene.plainly(f"git clone -q --template={template} {scene.upstream} ../clone")


@attack
def submodule_update_command(scene: Scene) -> Callable[[], None]:
    head = plain_git("rev-parse", "HEAD", cwd=scene.upstream)
    plain_git("update-index", "--add", "--cacheinfo", f"160000,{head},module", cwd=scene.upstream)
    commit_upstream(
        scene.upstream, {".gitmodules": '[submodule "m"]\n\tpath = module\n\turl = ./\n'}
    )
    plain_git("update-index", "--add", "--cacheinfo", f"160000,{head},module", cwd=scene.upstream)
    plain_git("commit", "-qm", "module", cwd=scene.upstream)
    return lambda: scene.plainly(
        f"git -c protocol.file.allow=always clone -q {scene.upstream} ../clone",
        "git -C ../clone submodule init",
        f"git -C ../clone config submodule.m.update '!{scene.program}'",
        "git -C ../clone -c protocol.file.allow=always submodule update",
    )


@pytest.mark.parametrize("name", ATTACKS)
def test_upstream_executes_nothing(scene: Scene, name: str) -> None:
    carelessly = ATTACKS[name](scene)
    if plain_git("rev-list", "--count", "main", cwd=scene.upstream) == "1":
        scene.plainly("git -c core.fsmonitor= -c core.hooksPath=/dev/null -c commit.gpgSign=false "
                      "commit -q --allow-empty -m second")  # fmt: skip
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


def literally(scene: Scene, make: Callable[[Forge], str]) -> None:
    """Put a commit of forged objects on the upstream's main branch, past git's checks."""
    forge = Forge()
    commit = forge.commit(make(forge), plain_git("rev-parse", "main", cwd=scene.upstream))
    plain_git("index-pack", "--stdin", cwd=scene.upstream, stdin=forge.pack())
    write(scene.upstream, {".git/refs/heads/main": f"{commit}\n"})


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
    literally(scene, lambda forge: exponential(forge, None))  # type: ignore[arg-type] # it needs no bench
    started = time.monotonic()
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
    assert time.monotonic() - started < 60


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
