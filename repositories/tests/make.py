"""Builders: real upstream repositories, and a workspace's hand-over without a sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repositories import git

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
    "HOME": "/nonexistent", "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8",
}  # fmt: skip
ME = (os.getuid(), os.getgid())


def plain_git(
    *args: str, cwd: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> str:
    """Run git as a person would: no protection at all."""
    done = subprocess.run(
        ["git", *args], cwd=cwd, input=stdin, env={**IDENTITY, **(env or {})},
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def write(tree: Path, files: Mapping[str, str | bytes | None]) -> None:
    for name, content in files.items():
        path = tree / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


FILES = {"README.md": "# Sample\n", "src/app.py": "def add(a, b):\n    return a + b\n"}


def make_upstream(path: Path, files: Mapping[str, str | bytes] | None = None) -> Path:
    """Make a work repository with one commit on ``main``."""
    path.mkdir(parents=True)
    plain_git("init", "-q", "-b", "main", cwd=path)
    commit_upstream(path, FILES if files is None else files)
    return path


def commit_upstream(
    path: Path, files: Mapping[str, str | bytes | None], message: str = "Work"
) -> str:
    write(path, files)
    plain_git("add", "-A", cwd=path)
    plain_git("commit", "-q", "--allow-empty", "-m", message, cwd=path)
    return plain_git("rev-parse", "HEAD", cwd=path)


@dataclass
class Bench:
    """A task's folders: mirror, store, and a work tree standing for the sandbox's overlay."""

    mirror: Path
    store: Path
    tree: Path
    base: str
    previous: str
    private: Path
    errors: str = ""
    made: bytes = b""
    """What MADE_SCRIPT told of the setup."""

    def script(
        self, text: str, commit: str, *, name: str = "script"
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["bash", "-c", text, name, commit, str(self.mirror / "objects"),
             str(self.store / "objects")],
            cwd=self.tree, input=self.made, capture_output=True, timeout=60, check=False,
            env={"PATH": os.environ["PATH"], "ASYNCCODER_CHECKPOINT_DIR": str(self.private)},
        )  # fmt: skip

    def hand_over(self) -> bytes:
        done = self.script(git.CHECKPOINT_SCRIPT, self.previous)
        self.errors = done.stderr.decode("utf-8", "replace")
        assert done.returncode == 0, self.errors
        return done.stdout

    def look(self) -> None:
        """See what a setup has made; the scripts leave it out from now on."""
        self.made = b""
        done = self.script(git.MADE_SCRIPT, self.base, name="made")
        assert done.returncode == 0, done.stderr
        self.made = done.stdout

    def checkpoint(self, *, limits: git.PackLimits | None = None) -> git.Checkpoint:
        made = git.accept_checkpoint(
            self.store, self.hand_over(), previous=self.previous, limits=limits
        )
        self.previous = made.commit
        return made

    def fresh_tree(self) -> None:
        """Throw the work tree away, as a lost sandbox would, and start again from the base."""
        shutil.rmtree(self.tree)
        shutil.rmtree(self.private, ignore_errors=True)
        shutil.copytree(self.mirror.parent / "bases" / self.base, self.tree, symlinks=True)

    def restore(self) -> None:
        done = self.script(git.RESTORE_SCRIPT, self.previous)
        assert done.returncode == 0, done.stderr

    def paths(self) -> dict[str, bytes | str]:
        """Return the work tree's files but .git: path to bytes, or to a link's target."""
        found: dict[str, bytes | str] = {}
        for folder, folders, names in os.walk(self.tree):
            if ".git" in folders and Path(folder) == self.tree:
                folders.remove(".git")
            for name in (*names, *folders):
                path = Path(folder, name)
                if path == self.tree / ".git":
                    continue
                if path.is_symlink():
                    found[str(path.relative_to(self.tree))] = str(path.readlink())
                elif path.is_file():
                    found[str(path.relative_to(self.tree))] = path.read_bytes()
        return found


def make_bench(folder: Path, upstream: Path) -> Bench:
    mirror, bases, store = folder / "mirror.git", folder / "bases", folder / "store.git"
    git.ensure_mirror(mirror, git.Remote(str(upstream)), max_bytes=100 * 1024**2)
    base = git.resolve_commit(mirror, "main")
    made = git.build_base(mirror, base, bases, owner=ME)
    git.create_store(store, mirror)
    tree = folder / "tree"
    shutil.copytree(made, tree, symlinks=True)
    return Bench(mirror, store, tree, base, base, folder / "checkpoint")
