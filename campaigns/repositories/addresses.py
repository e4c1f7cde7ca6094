"""Addresses that a tenant connects: each leads to a trap, to a program, or to a file of the host."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

from django.conf import settings

from accounts.models import User
from asynccoder.lib import outbound
from asynccoder.lib.errors import AppError
from asynccoder.tests.traps import Trap
from campaigns.repositories.vector import ADDRESSES, REFUSES_TOO, Outcome, Vector, plainly
from repositories import connect
from repositories.models import Repository
from repositories.tests.git_server import serving
from repositories.tests.make import make_upstream, plain_git
from repositories.tests.rogue_server import Answer, lying

PINNED = "a name is resolved once, and that address is called"
# PORT is the trap's; each is what git itself would call.
LISTENED_TO = (
    "http://127.0.0.1:PORT/acme/app.git", "http://localhost:PORT/acme/app.git", "http://127.1:PORT/acme/app.git",
    "http://2130706433:PORT/acme/app.git", "http://0x7f.1:PORT/acme/app.git", "http://0177.0.0.1:PORT/acme/app.git",
    "http://0:PORT/acme/app.git", "http://ada:pw@127.0.0.1:PORT/acme/app.git", "https://127.0.0.1:PORT/acme/app.git",
    "https://localhost:PORT/acme/app.git", "https://2130706433:PORT/acme/app.git", "git://127.0.0.1:PORT/acme/app.git",
    "https://github.com@127.0.0.1:PORT/acme/app.git",
)  # fmt: skip
# PROGRAM touches the marker. The settings are what a careless machine has.
RUN = {
    "ext::PROGRAM": "git -c protocol.ext.allow=always ls-remote URL",
    "ssh://127.0.0.1/acme/app.git": "git -c core.sshCommand=PROGRAM ls-remote URL",
    "ada@127.0.0.1:acme/app.git": "git -c core.sshCommand=PROGRAM ls-remote URL",
    "--upload-pack=PROGRAM": "git ls-remote URL .",
}
NOT_EVEN_GIT = (
    "ftp://127.0.0.1/acme/app.git",
    "ssh://-oProxyCommand=PROGRAM/acme/app.git", "https://169.254.169.254/latest/meta-data", "https://[::ffff:127.0.0.1]/a/b",
    "https://[64:ff9b::7f00:1]/a/b", "https://127.0.0.1\\@github.com/a/b", "javascript:alert(1)",
)  # fmt: skip


def vectors() -> Iterator[Vector]:
    for url in LISTENED_TO:
        yield Vector(f"address: {url}", ADDRESSES, partial(_listened, url))
    for url, careless in RUN.items():
        yield Vector(f"address: {url}", ADDRESSES, partial(_run, url, careless))
    yield Vector("address: file:// and a path of another tenant", ADDRESSES, _path)
    for url in NOT_EVEN_GIT:
        why = "no such place here" if url.startswith("https") else REFUSES_TOO
        yield Vector(f"address: {url}", ADDRESSES, partial(_refused, url), why)
    yield Vector("address: a name that leads elsewhere when it is called", PINNED, _rebinding)
    yield Vector(
        "address: a link that leads elsewhere later", "a path is followed again at each use", _moved
    )


def _owner() -> User:
    return User.objects.get(username="addresses")


def connect_to(url: str) -> str:
    """Connect an address; return "" where it was refused."""
    try:
        connect.connect_repository(owner=_owner(), url=url)
    except AppError:
        return ""
    return "it was connected"


def _listened(url: str, folder: Path) -> Outcome:
    with contextlib.closing(Trap()) as trap:
        address = url.replace("PORT", str(trap.port))
        got = connect_to(address) or ("the trap was called" if trap.hits else "")
        plainly(f"git ls-remote {address}", folder, seconds=10)
        return Outcome(got, bool(trap.hits))


def _program(folder: Path) -> tuple[Path, str]:
    marker, program = folder / "MARKER", folder / "evil"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    return marker, str(program)


def _run(url: str, careless: str, folder: Path) -> Outcome:
    marker, program = _program(folder)
    url = url.replace("PROGRAM", program)
    plain_git("init", "-q", cwd=folder)
    got = connect_to(url) or ("a program ran" if marker.exists() else "")
    plainly(careless.replace("PROGRAM", program).replace("URL", url), folder)
    return Outcome(got, marker.exists())


def _path(folder: Path) -> Outcome:
    other = make_upstream(folder / "other-tenant")
    got = [connect_to(url) for url in (f"file://{other}", str(other), f"{other}/.git")]
    said = plainly(f"git ls-remote file://{other}", folder)
    return Outcome("".join(got), "refs/heads/main" in said)


def _refused(url: str, folder: Path) -> Outcome:
    marker, program = _program(folder)
    got = connect_to(url.replace("PROGRAM", program))
    return Outcome(got or ("a program ran" if marker.exists() else ""))


def _rebinding(folder: Path) -> Outcome:
    """The first answer of the name server is the honest server's; later ones are the trap's."""
    work = make_upstream(folder / "work")
    plain_git("clone", "-q", "--bare", str(work), str(folder / "served/acme/app.git"), cwd=folder)
    with serving(folder / "served") as server, lying(lambda *_: Answer([], status=404)) as trap:
        # To this machine's own resolver, "localhost" is where the trap listens: on every address.
        url = f"http://localhost:{trap.port}/acme/app.git"
        settings.OUTBOUND_ALLOWED.append(f"localhost:{trap.port}")
        with mock.patch.object(outbound, "resolved", return_value=["127.9.9.9"]):
            got = connect_to(url)
        called = "the trap was called" if trap.seen else ""
        assert server.address != trap.address
        plainly(f"git ls-remote {url}", folder)
        return Outcome(got or called, bool(trap.seen))


def _moved(folder: Path) -> Outcome:
    own, other = make_upstream(folder / "own/app"), make_upstream(folder / "other-tenant")
    settings.LOCAL_REPOSITORIES.append(str(own.parent))
    repository = connect.connect_repository(owner=_owner(), url=str(own), name=f"moved{id(folder)}")
    own.rename(own.with_name("moved"))
    own.symlink_to(other)
    got = _synced(repository)
    said = plainly(f"git ls-remote {repository.url}", folder)
    return Outcome(got, "refs/heads/main" in said)


def _synced(repository: Repository) -> str:
    try:
        connect.sync_repository(repository)
    except AppError:
        return ""
    return "another tenant's repository was fetched"


def spellings(count: int, chance: random.Random, folder: Path) -> Outcome:
    """Spell the loopback address in every way that a resolver may take, at random."""
    with contextlib.closing(Trap()) as trap:
        for _ in range(count):
            url = (
                f"{chance.choice(('http', 'https', 'HTTPS'))}://{_loopback(chance)}:{trap.port}/a/b"
            )
            if (got := connect_to(url)) or trap.hits:
                return Outcome(f"{got or 'the trap was called'}: {url}")
        for _ in range(5):
            plainly(f"git ls-remote http://{_loopback(chance)}:{trap.port}/a/b", folder)
        return Outcome("", trap.hits >= 5)


def _loopback(chance: random.Random) -> str:
    """Return 127.0.0.1 as a resolver of the C library reads it."""
    taken = chance.randrange(4)
    numbers = [*(127, 0, 0)[:taken], 0x7F000001 % 256 ** (4 - taken)]
    return ".".join(_number(number, chance) for number in numbers)


def _number(number: int, chance: random.Random) -> str:
    zeroes = "0" * chance.randrange(5)
    return chance.choice(
        (f"{number}", f"0{zeroes}{number:o}", f"0x{zeroes}{number:x}", f"0X{number:X}")
    )
