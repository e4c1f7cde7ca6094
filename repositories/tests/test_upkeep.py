from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from repositories import git
from repositories.git.upkeep import LOOSE_IN_ONE_FOLDER, PACKS
from repositories.tests.make import commit_upstream, make_upstream, plain_git

MAX = 10**8


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return make_upstream(tmp_path / "upstream")


@pytest.fixture
def mirror(upstream: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mirror.git"
    git.ensure_mirror(path, git.Remote(str(upstream)), max_bytes=MAX)
    return path


def fetch(mirror: Path, upstream: Path) -> None:
    git.ensure_mirror(mirror, git.Remote(str(upstream)), max_bytes=MAX)


def packs(mirror: Path) -> list[Path]:
    return list(mirror.glob("objects/pack/pack-*.pack"))


def add_packs(mirror: Path, count: int) -> list[str]:
    """Put blobs that no branch names into the mirror, a pack each, as rewritten history is."""
    blobs = []
    for number in range(count):
        content = os.urandom(40)
        blob = plain_git("hash-object", "-w", "--stdin", cwd=mirror, stdin=content)
        names = f"{blob}\n".encode()
        plain_git("pack-objects", "-q", "objects/pack/pack", cwd=mirror, stdin=names)
        blobs.append(blob)
        assert number + 1 <= len(packs(mirror))
    plain_git("prune-packed", "-q", cwd=mirror)
    return blobs


def test_many_packs_are_joined_and_nothing_is_dropped(mirror: Path, upstream: Path) -> None:
    blobs = add_packs(mirror, PACKS + 1)
    fetch(mirror, upstream)
    assert len(packs(mirror)) < PACKS // 2
    for blob in blobs:
        assert plain_git("cat-file", "-t", blob, cwd=mirror) == "blob"
    for pack in packs(mirror):
        plain_git("verify-pack", str(pack), cwd=mirror)


def test_loose_objects_are_packed_also_those_without_a_name(mirror: Path, upstream: Path) -> None:
    blobs = [
        plain_git("hash-object", "-w", "--stdin", cwd=mirror, stdin=f"{number}".encode())
        for number in range(LOOSE_IN_ONE_FOLDER * 256 * 2)
        if plain_git_hash(f"{number}".encode()).startswith("17")
    ]
    assert len(blobs) > LOOSE_IN_ONE_FOLDER
    fetch(mirror, upstream)
    assert list(mirror.glob("objects/17/*")) == []
    assert {plain_git("cat-file", "-t", blob, cwd=mirror) for blob in blobs} == {"blob"}


def plain_git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def test_a_store_that_borrows_from_the_mirror_goes_on(mirror: Path, upstream: Path) -> None:
    store = mirror.with_name("store.git")
    git.create_store(store, mirror)
    old = git.resolve_commit(mirror, "main")
    plain_git("commit", "-q", "--amend", "-m", "Rewritten", cwd=upstream)
    add_packs(mirror, PACKS + 1)
    fetch(mirror, upstream)
    assert git.resolve_commit(mirror, "main") != old
    assert git.show_file(store, old, "README.md", max_bytes=100) == b"# Sample\n"


def test_few_packs_are_left_alone(mirror: Path, upstream: Path) -> None:
    add_packs(mirror, 3)
    before = sorted(packs(mirror))
    fetch(mirror, upstream)
    assert sorted(packs(mirror)) == before


def test_a_repack_that_fails_does_not_fail_the_fetch(
    mirror: Path, upstream: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_packs(mirror, PACKS + 1)
    broken = packs(mirror)[0]
    broken.chmod(0o600)
    broken.write_bytes(b"no pack")
    commit = commit_upstream(upstream, {"new.txt": "new\n"})
    fetch(mirror, upstream)
    assert git.resolve_commit(mirror, "main") == commit
    assert "was not repacked" in caplog.text
