"""Builders of hosted projects: a task's finished work, and what the storage has of it."""

from __future__ import annotations

from pathlib import Path

from django.core.files.storage import storages

from repositories import connect, git, hosted
from repositories.models import Repository
from repositories.tests.make import plain_git


def tip(repository: Repository, branch: str = "main") -> str:
    connect.sync_repository(repository)
    return connect.commit_of(repository, branch)


def make_work(
    repository: Repository, folder: Path, files: dict[str, str], *, base: str = ""
) -> hosted.Work:
    """Make a task's store with a commit upon the project's tip, as a run leaves it."""
    base = base or tip(repository)
    store = folder / f"store-{len(list(folder.iterdir()))}" / "store.git"
    git.create_store(store, connect.mirror_path(repository))
    index = {"GIT_INDEX_FILE": str(store / "index")}
    plain_git("read-tree", base, cwd=store, env=index)
    for name, content in files.items():
        blob = plain_git("hash-object", "-w", "--stdin", cwd=store, stdin=content.encode())
        plain_git(
            "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", cwd=store, env=index
        )
    tree = plain_git("write-tree", cwd=store, env=index)
    commit = plain_git("commit-tree", tree, "-p", base, "-m", "Work", cwd=store)
    branch = f"asynccoder/{commit[:8]}"
    return hosted.Work(store=store, base=base, commit=commit, onto="main", branch=branch)


def publish(repository: Repository, work: hosted.Work) -> str:
    return hosted.publish(repository, connect.mirror_path(repository), work)


def bundles() -> list[Path]:
    return sorted(Path(storages["runs"].location).glob("hosted/*/*"))  # type: ignore[attr-defined] # a folder in tests
