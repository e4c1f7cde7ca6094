"""Servers that lie: they lead elsewhere, ask for what is not theirs, never end, or speak to terminals."""

from __future__ import annotations

import base64
import gzip
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from asynccoder.lib.errors import AppError
from campaigns.repositories import tenant
from campaigns.repositories.contents import served
from campaigns.repositories.vector import FIXED, REFUSES_TOO, Outcome, Vector, plainly
from repositories import connect, git
from repositories.models import Repository
from repositories.tests.forged import Forge
from repositories.tests.git_server import serving
from repositories.tests.make import commit_upstream, make_upstream, plain_git
from repositories.tests.rogue_server import (
    ADVERTISED,
    Answer,
    lying,
    packet,
    serving_files,
    upstream,
)

NO_REDIRECTS = "redirects are not followed"
BOUNDED = "limits of time, output and memory of each call"
NAMES = "only plain names of branches are passed on"
CLEANED = "what a remote says is cleaned before it is kept"
MIB = 1024**2
LARGEST_ANSWER = 128 * MIB
"""Of refs; the campaign lets a call have less memory than these take in git."""
ODD_NAMES = (
    "-x", "--upload-pack=x", "../../x", "a..b", "x.lock", "@{1}", "refs/heads/x", "HEAD", "\x1b[2J",
)  # fmt: skip
ESCAPE = "\x1b[2J\x1b]0;owned\x07"
PAIR = base64.b64encode(f"ada:{tenant.TOKEN}".encode()).decode()


def vectors() -> Iterator[Vector]:
    for status in (301, 302, 307, 308):
        yield Vector(
            f"server: redirect the first request ({status})",
            NO_REDIRECTS,
            partial(_redirect, status),
        )
    yield Vector("server: redirect the second request", NO_REDIRECTS, _redirect_later)
    yield Vector("server: redirect the push", NO_REDIRECTS, _redirect_push)
    yield Vector(
        "server: lend objects of another server (http-alternates)", NO_REDIRECTS, _alternates
    )
    yield Vector(
        "server: ask for a password that the worker's askpass and helper know", FIXED, _ask
    )
    yield Vector("server: say back the token in an error", CLEANED, _reflect)
    yield Vector("server: command a terminal by an error", CLEANED, _speak)
    yield Vector("server: never answer", BOUNDED, _silence)
    yield Vector("server: never stop naming branches", BOUNDED, _endless)
    yield Vector(
        "server: the same, compressed a hundredfold", BOUNDED, partial(_endless, is_compressed=True)
    )
    yield Vector("server: name 400,000 branches", BOUNDED, _many)
    yield Vector("server: give more than a repository may hold", BOUNDED, _large)
    for name in ODD_NAMES:
        yield Vector(f"server: a branch named {name!r}", NAMES, partial(_odd_name, name))
    yield Vector("user: a branch named --upload-pack=PROGRAM", NAMES, _upload_pack)
    for what, change in BROKEN.items():
        yield Vector(f"server: a pack {what}", "git itself", partial(_broken, change), REFUSES_TOO)


def elsewhere(path: str, body: bytes) -> Answer:
    return Answer([], status=404)


def _redirect(status: int, folder: Path) -> Outcome:
    with lying(elsewhere) as trap:

        def answer(path: str, body: bytes) -> Answer:
            return Answer([], {"Location": trap.url() + path}, status)

        with lying(answer) as rogue:
            refused = tenant.refused_at(rogue.address, "acme/app.git")
            got = "" if refused and not trap.seen else "another server was called"
            plainly(f"git ls-remote {rogue.url()}", folder)
        return Outcome(got, bool(trap.seen))


def _redirect_later(folder: Path) -> Outcome:
    commit = "1" * 40
    with lying(elsewhere) as trap:

        def answer(path: str, body: bytes) -> Answer:
            if "info/refs" in path:
                return upstream({"refs/heads/main": commit})(path, body)
            return Answer([], {"Location": trap.url() + path}, 307)

        with lying(answer) as rogue:
            refused = tenant.refused_at(rogue.address, "acme/app.git")
            got = "" if refused and not trap.seen else "another server was called"
            plainly(f"git -c http.followRedirects=true clone {rogue.url()} control", folder)
        return Outcome(got, bool(trap.seen))


def _redirect_push(folder: Path) -> Outcome:
    work = make_upstream(folder / "work")
    plain_git("clone", "-q", "--bare", str(work), str(folder / "served/app.git"), cwd=folder)
    with lying(elsewhere) as trap, serving(folder / "served") as server:
        server.password = tenant.TOKEN
        repository = tenant.connected(server.address)
        head = tenant.work_on(repository)
        server.redirect_to = f"http://{trap.address}"
        got = _push(repository, head)
        got = "another server was called" if trap.seen else got
        plainly(f"git push http://ada:{tenant.TOKEN}@{server.address}/app.git HEAD:x", work)
        return Outcome(got, bool(trap.seen))


def _push(repository: Repository, head: str) -> str:
    store = connect.mirror_path(repository).with_name("store.git")
    try:
        git.push_branch(store, connect.remote_of(repository), head, "asynccoder/y", expected=None)
    except git.GitFailed:
        return ""
    return "it was pushed"


def _alternates(folder: Path) -> Outcome:
    with served(folder) as here, lying(elsewhere) as trap:
        plain_git("update-server-info", cwd=here.bare)
        for path in (here.bare / "objects").glob("??/*"):
            path.unlink()
        (here.bare / "objects/info/http-alternates").write_text(f"{trap.url('x/objects')}\n")
        with serving_files(folder / "served") as address:
            refused = tenant.refused_at(address, secret="")
            got = "" if refused and not trap.seen else "another server was called"
            plainly(
                f"git -c http.followRedirects=true clone http://{address}/app.git control", folder
            )
        return Outcome(got, bool(trap.seen))


def _ask(folder: Path) -> Outcome:
    """Ask what the campaign's environment, which stands for a worker's, would answer (see run)."""
    program = folder / "askpass"
    program.write_text(f"#!/bin/sh\necho {tenant.TOKEN}\n")
    program.chmod(0o755)
    with served(folder) as here:
        refused = tenant.refused_at(here.address, secret="")
        got = "" if refused else "it went through"
        url = f"http://{here.address}/app.git"
        said = plainly(f"git ls-remote {url}", folder, GIT_ASKPASS=str(program))
    return Outcome(got, "refs/heads/main" in said)


def _reflect(folder: Path) -> Outcome:
    message = f"bad token {tenant.TOKEN} {PAIR}"
    told, plain = _said(message, folder)
    got = "the token was kept" if tenant.TOKEN in told or PAIR in told else ""
    return Outcome(got, message in plain)


def _speak(folder: Path) -> Outcome:
    told, plain = _said(ESCAPE, folder)
    return Outcome("a terminal was commanded" if "\x1b" in told else "", "\x1b" in plain)


def _said(message: str, folder: Path) -> tuple[str, str]:
    """Let a server say something while it gives a broken pack; return what is told of it."""
    commit, pack = _first_commit()
    broken = upstream({"refs/heads/main": commit}, pack[:-30], said=f"{message}\n".encode())
    with lying(broken) as rogue:
        refused = tenant.refused_at(rogue.address, "acme/app.git")
        plain = plainly(f"git clone {rogue.url()} control", folder)
    return f"{refused.shown} {refused.detail}" if refused else message, plain


def _silence(folder: Path) -> Outcome:
    with served(folder) as here, serving(folder / "served") as server:
        server.hang = threading.Event()
        refused = tenant.refused_at(server.address)
        got = "" if refused and "too long" in refused.shown else "it was waited for"
        url = f"http://{server.address}/app.git"
        said = plainly(f"git ls-remote {url}", here.folder, seconds=5)
    return Outcome(got, said == "still waiting")


def _endless(folder: Path, *, is_compressed: bool = False) -> Outcome:
    line = packet(b"%s refs/heads/%s\n" % (b"a" * 40, b"x" * 300))
    many = LARGEST_ANSWER // len(line)
    head = packet(b"# service=git-upload-pack\n") + b"0000"
    pieces: list[bytes] = [head, line * many, b"0000"]
    headers = {"Content-Type": ADVERTISED}
    if is_compressed:
        pieces = [gzip.compress(b"".join(pieces), 1)]
        headers["Content-Encoding"] = "gzip"
    with lying(lambda path, body: Answer(pieces, headers)) as rogue:
        refused = tenant.refused_at(rogue.address, "acme/app.git")
        got = "" if refused and "more" in refused.shown else "all of it was kept"
        said = plainly(f"git ls-remote {rogue.url()} | wc -l", folder)
    return Outcome(got, said.strip() == str(many))


def _many(folder: Path) -> Outcome:
    refs = {f"refs/heads/b{number}": "a" * 40 for number in range(400_000)}
    with lying(upstream(refs)) as rogue:
        refused = tenant.refused_at(rogue.address, "acme/app.git")
        said = plainly(f"git ls-remote {rogue.url()} | wc -l", folder)
    return Outcome("" if refused else "all were listed", said.strip() == "400000")


def _large(folder: Path) -> Outcome:
    with served(folder) as here:
        plain_git("config", "core.compression", "0", cwd=here.work)
        commit_upstream(here.work, {"noise.bin": os.urandom(48 * MIB)})
        here.publish()
        refused = tenant.refused_at(here.address)
        got = "" if refused and "larger" in refused.shown else "it was taken"
        here.plain_clone("clone", "--bare")
    return Outcome(got, bool(list((folder / "control/objects/pack").glob("*.pack"))))


def _odd_name(name: str, folder: Path) -> Outcome:
    commit = "1" * 40
    with lying(upstream({"refs/heads/main": commit, f"refs/heads/{name}": commit})) as rogue:
        try:
            repository = tenant.connected(rogue.address, "acme/app.git")
            found = [branch.name for branch in connect.branches_of(repository)]
        except AppError:
            found = ["main"]
        said = plainly(f"git ls-remote {rogue.url()}", folder)
    is_held = found == ["main"] and not git.is_valid_branch(name)
    got = "" if is_held else f"the branches are {found}"
    return Outcome(got, f"refs/heads/{name}" in said)


def _upload_pack(folder: Path) -> Outcome:
    marker = folder / "MARKER"
    program = folder / "evil"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    name = f"--upload-pack={program}"
    with served(folder) as here:
        repository = tenant.connected(here.address)
        connect.sync_repository(repository)
        try:
            connect.commit_of(repository, name)
            got = "it was taken for a branch"
        except AppError:
            got = ""
        got = (
            "a program ran on the host"
            if marker.exists() or connect.may_have_branch(repository, name)
            else got
        )
    plainly(f"git fetch {here.work} {name}", here.work)
    return Outcome(got, marker.exists())


# --- packs that git itself refuses -----------------------------------------------------------------


def _first_commit() -> tuple[str, bytes]:
    forge = Forge()
    tree = forge.tree(("100644", "a.txt", forge.blob(b"x" * 5000)))
    text = f"tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    return forge.add("commit", text.encode()), forge.pack()


def _of_missing_objects(pack: bytes) -> bytes:
    return Forge().pack()


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "that ends too soon": lambda pack: pack[: len(pack) // 2],
    "with another checksum": lambda pack: pack[:-1] + bytes([pack[-1] ^ 1]),
    "of garbage": lambda pack: os.urandom(len(pack)),
    "that lacks what was promised": _of_missing_objects,
}


def _broken(change: Callable[[bytes], bytes], folder: Path) -> Outcome:
    commit, pack = _first_commit()
    with lying(upstream({"refs/heads/main": commit}, change(pack))) as rogue:
        refused = tenant.refused_at(rogue.address, "acme/app.git")
    with lying(upstream({"refs/heads/main": commit}, pack)) as rogue:
        honest = tenant.refused_at(rogue.address, "acme/app.git", secret="")
    got = "" if refused else "it was taken"
    return Outcome(got or ("" if honest is None else f"the honest one is refused: {honest}"))
