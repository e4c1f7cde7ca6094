"""Hostile workspaces: what an agent leaves in one, and what a careless platform does with it then."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from repositories import git
from repositories.tests.make import IDENTITY, make_upstream, plain_git
from tasks.sandbox.base import Command, Limits, Workspace
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import prepare_owned, sandbox_ids
from tasks.sandbox.toolchain import Toolchain

FILES = {"README.md": "# Sample\n", "a.txt": "a\n", "sub/b.txt": "b\n"}
LIMITS = git.PackLimits()


@dataclass
class Scene:
    """One task on one upstream, without a database."""

    folder: Path
    upstream: Path
    base: str
    previous: str = ""
    errors: str = ""
    runs: int = field(default=0)

    @property
    def mirror(self) -> Path:
        return self.folder / "mirror.git"

    @property
    def store(self) -> Path:
        return self.folder / "store.git"

    @property
    def marker(self) -> Path:
        return self.folder / "MARKER"

    @contextmanager
    def sandbox(self, limits: Limits | None = None) -> Iterator[Bubblewrap]:
        """Lay a fresh overlay over the base; without a checkpoint that is where a task starts."""
        tree = git.build_base(self.mirror, self.base, self.folder / "bases", owner=sandbox_ids())
        self.runs += 1
        run = prepare_owned(self.folder / f"run{self.runs}")
        workspace = Workspace(
            base=tree,
            upper=prepare_owned(run / "upper"),
            work=prepare_owned(run / "work"),
            read_only_paths=git.borrowed_from(self.store),
        )
        with Bubblewrap(workspace, limits, toolchain=Toolchain.of_platform()) as sandbox:
            yield sandbox

    def script(self, sandbox: Bubblewrap, text: str, commit: str) -> bytes:
        argv = ["bash", "-c", text, "x", commit, *map(str, git.borrowed_from(self.store))]
        done = sandbox.run(Command(argv, errors_apart=True, keep=10**7))
        self.errors = done.errors.decode()
        assert done.exit_code == 0, self.errors
        return done.output

    def checkpoint(self, sandbox: Bubblewrap) -> git.Checkpoint:
        output = self.script(sandbox, git.CHECKPOINT_SCRIPT, self.previous)
        made = git.accept_checkpoint(self.store, output, previous=self.previous, limits=LIMITS)
        git.keep_ref(self.store, "checkpoint", made.commit)
        self.previous = made.commit
        return made

    def serve(self, sandbox: Bubblewrap) -> None:
        """Do what the platform does with a workspace from its checkpoint to the push."""
        head = self.checkpoint(sandbox).commit
        git.diff(self.store, self.base, head, max_bytes=10**6)
        git.changed_files(self.store, self.base, head)
        git.changed_lines(self.store, self.base, head)
        for entry in git.list_tree(self.store, head):
            git.show_file(self.store, head, entry.path, max_bytes=10**6)
        final = git.final_commit(
            self.store, self.base, head, message="Work", author_name="A", author_email="a@b"
        )
        git.push_branch(
            self.store, git.Remote(str(self.upstream)), final, "asynccoder/x", expected=None
        )
        git.write_bundle(self.store, self.base, final, self.folder / "work.bundle")


def make_scene(folder: Path) -> Scene:
    upstream = make_upstream(folder / "upstream", FILES)
    base = plain_git("rev-parse", "HEAD", cwd=upstream)
    made = Scene(folder / "var", upstream, base, previous=base)
    git.ensure_mirror(made.mirror, git.Remote(str(upstream)), max_bytes=10**8)
    git.create_store(made.store, made.mirror)
    return made


def inside(sandbox: Bubblewrap, script: str) -> None:
    who = {name: "x@y" for name in IDENTITY if name.endswith(("_NAME", "_EMAIL"))}
    done = sandbox.run(Command(["bash", "-ec", script], env=who))
    assert done.exit_code == 0, done.text


def taken_out(sandbox: Bubblewrap, folder: Path) -> Path:
    """Copy the work tree to the host as it is, as only a careless platform would."""
    packed = sandbox.run(Command(["tar", "-c", "."], keep=10**8)).output
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="fully_trusted")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, os.getuid(), os.getgid(), follow_symlinks=False)
    return folder


def carelessly(script: str, cwd: Path) -> None:
    subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=IDENTITY, capture_output=True, timeout=60, check=False
    )


CHANGE = "echo changed >> a.txt"
NEST = "git init -q sub2 && cd sub2 && echo x > x && git add x && git commit -qm x && "
MADE = "git add -A && git commit -qm work"

# name: (what the agent leaves behind, what a careless platform does). EVIL touches the marker.
ATTACKS: dict[str, tuple[str, str]] = {
    "clean filter": ('git config filter.x.clean "EVIL"; echo "* filter=x" > .gitattributes', "git add -A"),
    "process filter": ('git config filter.x.process "EVIL"; echo "* filter=x" > .gitattributes', "git add -A"),
    "smudge filter": (f'echo "* filter=x" > .gitattributes; {MADE}; git config filter.x.smudge "EVIL"',
                      "rm a.txt; git checkout -- a.txt"),
    "attributes beside the tree": ('git config filter.x.clean "EVIL"; echo "* filter=x" > .git/info/attributes', "git add -A"),
    "file system monitor": ('git config core.fsmonitor "EVIL"', "git status"),
    "monitor by an include": ('printf "[core]\\n\\tfsmonitor = EVIL\\n" > .git/more; git config include.path more', "git status"),
    "monitor of the work tree's config": (
        'git config extensions.worktreeConfig true; git config --worktree core.fsmonitor "EVIL"', "git diff"),
    "hook before a commit": ('mkdir -p .git/hooks; printf "#!/bin/sh\\nEVIL\\n" > .git/hooks/pre-commit; chmod +x .git/hooks/*', MADE),
    "hook of the index": ('mkdir -p .git/hooks; printf "#!/bin/sh\\nEVIL\\n" > .git/hooks/post-index-change; chmod +x .git/hooks/*', "git add -A"),
    "hook elsewhere": ('mkdir h; printf "#!/bin/sh\\nEVIL\\n" > h/pre-commit; chmod +x h/*; git config core.hooksPath h', MADE),
    "git folder is a file": ('git init -q ../tmp/x 2>/dev/null || true; mkdir o; mv .git o/g; echo "gitdir: o/g" > .git; git config core.fsmonitor "EVIL"', "git status"),
    "git folder is a link": ('mkdir o; mv .git o/g; ln -s o/g .git; git config core.fsmonitor "EVIL"', "git status"),
    "nested repository's filter": (
        NEST + 'git config filter.x.clean "EVIL"; echo "* filter=x" > .gitattributes; echo y > x; cd ..; git add -A 2>/dev/null; git commit -qm n; touch sub2/x',
        "git -c submodule.recurse=true status; git add -A; git diff"),
    "nested repository's monitor": (NEST + 'git config core.fsmonitor "EVIL"; cd ..; git add -A 2>/dev/null; git commit -qm n', "git status"),
    "nested repository in a folder of the tree": (
        'cd sub; git init -q; git add -A; git commit -qm x; git config core.fsmonitor "EVIL"; git config filter.x.clean "EVIL"; echo "* filter=x" > .gitattributes; echo z > b.txt',
        "git rm -q --cached -r sub; git add -A; git status; git diff"),
    "textconv": ('git config diff.x.textconv "EVIL"; echo "*.txt diff=x" > .gitattributes; ' + CHANGE, "git diff"),
    "diff command": ('git config diff.x.command "EVIL"; echo "*.txt diff=x" > .gitattributes; ' + CHANGE, "git diff"),
    "external diff": ('git config diff.external "EVIL"; ' + CHANGE, "git diff"),
    "merge driver": (
        'echo "*.txt merge=x" > .gitattributes; git add -A; git commit -qm base; git checkout -qb side; echo side > a.txt; git commit -qam side;'
        ' git checkout -q work; echo main > a.txt; git commit -qam main; git config merge.x.driver "EVIL"', "git merge side"),
    "signing program": ('printf "#!/bin/sh\\nEVIL\\n" > sign; chmod +x sign; git config gpg.program "$PWD/sign"; git config commit.gpgSign true; git config user.signingKey x; '
                        "git config gpg.program ./sign", MADE),
    "editor": ('git config core.editor "EVIL;:"; ' + CHANGE, "git commit -a"),
    "alias": ('git config alias.publish "!EVIL"', "git publish"),
    "ssh command": ('git config core.sshCommand "EVIL;"; git remote add o ssh://x.invalid/y', "git fetch o"),
    "upload-pack of a remote": ('git remote add o "MIRROR"; git config remote.o.uploadpack "EVIL;"', "git fetch o"),
    "credential helper": ('git config credential.helper "!EVIL;"; git remote add o http://127.0.0.1:9/x', "echo url=http://127.0.0.1:9 | git credential fill"),
    "trailer command": ('git config trailer.x.command "EVIL"; git config trailer.x.ifmissing add; git config trailer.x.key X', "echo x | git interpret-trailers"),
    "submodule update": (
        NEST + "cd ..; printf '[submodule \"s\"]\\n\\tpath = sub2\\n\\turl = ./\\n' > .gitmodules; git add -A 2>/dev/null; git commit -qm s;"
        ' git config submodule.s.url ./; git config submodule.s.active true; git config submodule.s.update "!EVIL"; (cd sub2; git commit -qm y --allow-empty)',
        "git submodule update"),
}  # fmt: skip
