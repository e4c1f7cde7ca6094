"""Servers that lie in git's protocol: what they say is bounded, and what they give is checked."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from repositories import git
from repositories.git import command, store
from repositories.tests.forged import Forge
from repositories.tests.make import commit_upstream, make_upstream, plain_git, write
from repositories.tests.rogue_server import (
    ADVERTISED,
    Answer,
    RogueServer,
    advertised,
    lying,
    packet,
    serving_files,
    upstream,
)

MIB = 1024**2


def remote(url: str) -> git.Remote:
    return git.Remote(url, None, "127.0.0.1", is_plain_http_allowed=True)


def forged(make: Callable[[Forge], str]) -> tuple[str, bytes]:
    """Return a first commit of forged objects, and its pack."""
    forge = Forge()
    text = f"tree {make(forge)}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    return forge.add("commit", text.encode()), forge.pack()


def reserved(forge: Forge) -> str:
    return forge.tree(("40000", "..", forge.tree(("100644", "config", forge.blob()))))


def honest(forge: Forge) -> str:
    return forge.tree(("100644", "a.txt", forge.blob()))


def test_forged_pack_over_the_wire_is_checked(tmp_path: Path) -> None:
    for make, is_taken in ((honest, True), (reserved, False)):
        commit, pack = forged(make)
        mirror, control = tmp_path / f"{make.__name__}.git", tmp_path / f"{make.__name__}-plain"
        with lying(upstream({"refs/heads/main": commit}, pack)) as rogue:
            plain_git("clone", "-q", "--bare", rogue.url(), str(control), cwd=tmp_path)
            if is_taken:
                git.ensure_mirror(mirror, remote(rogue.url()), max_bytes=MIB)
                continue
            with pytest.raises(git.CloneFailed, match="unsafe objects"):
                git.ensure_mirror(mirror, remote(rogue.url()), max_bytes=MIB)
        assert not mirror.exists()


def test_server_of_plain_files_cannot_pass_objects_unchecked(tmp_path: Path) -> None:
    commit, pack = forged(reserved)
    bare = tmp_path / "served/acme/app.git"
    plain_git("init", "-q", "--bare", "-b", "main", str(bare), cwd=tmp_path)
    plain_git("index-pack", "--stdin", cwd=bare, stdin=pack)
    write(bare, {"refs/heads/main": f"{commit}\n"})
    plain_git("update-server-info", cwd=bare)
    mirror = tmp_path / "mirror.git"
    with serving_files(tmp_path / "served") as address:
        url = f"http://{address}/acme/app.git"
        with pytest.raises(git.CloneFailed, match="unchecked"):
            git.ensure_mirror(mirror, remote(url), max_bytes=MIB)
        plain_git("-c", "transfer.fsckObjects=true", "clone", "-q", "--bare", url,
                  str(tmp_path / "control.git"), cwd=tmp_path)  # fmt: skip
    assert not mirror.exists()
    assert plain_git("cat-file", "-t", commit, cwd=tmp_path / "control.git") == "commit"


def many_refs() -> Iterable[bytes]:
    yield packet(b"# service=git-upload-pack\n") + b"0000"
    for number in itertools.count():
        yield b"".join(
            packet(b"%s refs/heads/%09d\n" % (b"a" * 40, n + number)) for n in range(999)
        )


def test_endless_answer_ends_at_the_memory_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repositories.git.mirror.CONTACT_MEMORY", 160 * MIB)

    def answer(path: str, body: bytes) -> Answer:
        return Answer(many_refs(), {"Content-Type": ADVERTISED})

    with lying(answer) as rogue:
        with pytest.raises(git.CloneFailed, match="more of the repository than is read"):
            git.remote_heads(remote(rogue.url()))
        assert rogue.sent < 160 * MIB
    most = 200 * MIB

    def large(path: str, body: bytes) -> Answer:
        refs = {f"refs/heads/{'x' * 200}{number}": "a" * 40 for number in range(999)}
        line = advertised(refs)[len(packet(b"# service=git-upload-pack\n")) + 4 : -4]
        head = packet(b"# service=git-upload-pack\n") + b"0000"
        return Answer([head, *([line] * (most // len(line) + 1))], {"Content-Type": ADVERTISED})

    with lying(large) as rogue:
        read_all(rogue, tmp_path)
        assert rogue.sent >= most, "the control: plain git keeps it all"


def read_all(rogue: RogueServer, folder: Path) -> None:
    with pytest.raises(Exception, match="ls-remote"):
        plain_git("ls-remote", rogue.url(), cwd=folder)


def test_large_pack_is_read_within_the_memory_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_upstream(tmp_path / "work")
    for setting in (("core.bigFileThreshold", "1m"), ("core.compression", "0")):
        plain_git("config", *setting, cwd=work)
    base = plain_git("rev-parse", "HEAD", cwd=work)
    head = commit_upstream(work, {f"noise{n}.bin": os.urandom(25 * MIB) for n in range(3)})
    mirror = tmp_path / "mirror.git"
    git.ensure_mirror(mirror, git.Remote(str(work)), max_bytes=500 * MIB)
    monkeypatch.setattr(store, "LISTING_MEMORY", 64 * MIB)
    store.check_changes(mirror, base, head, limits=git.PackLimits())
    whole = [one for one in command.SETTINGS if not one.startswith("core.packedGit")]
    monkeypatch.setattr(command, "SETTINGS", tuple(whole))
    with pytest.raises(git.GitFailed, match="could not"):
        store.check_changes(mirror, base, head, limits=git.PackLimits())
