"""Hostile upstreams: what is prepared in them, and what a person would do with plain git then."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from repositories import git
from repositories.tests.forged import Forge
from repositories.tests.make import IDENTITY, ME, commit_upstream, make_upstream, plain_git, write


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


def make_scene(folder: Path) -> Scene:
    upstream = make_upstream(folder / "upstream")
    marker, program = folder / "MARKER", folder / "evil"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    return Scene(folder, upstream, marker, program)


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


def give_a_second_commit(scene: Scene) -> None:
    """Commit something where an attack has committed nothing, so that there is a difference."""
    if plain_git("rev-list", "--count", "main", cwd=scene.upstream) == "1":
        scene.plainly("git -c core.fsmonitor= -c core.hooksPath=/dev/null -c commit.gpgSign=false "
                      "commit -q --allow-empty -m second")  # fmt: skip


def literally(scene: Scene, make: Callable[[Forge], str]) -> None:
    """Put a commit of forged objects on the upstream's main branch, past git's checks."""
    forge = Forge()
    commit = forge.commit(make(forge), plain_git("rev-parse", "main", cwd=scene.upstream))
    plain_git("index-pack", "--stdin", cwd=scene.upstream, stdin=forge.pack())
    write(scene.upstream, {".git/refs/heads/main": f"{commit}\n"})
