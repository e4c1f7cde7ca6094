"""Hostile repositories: their contents, servers, addresses, workspaces and packs.

Each vector goes through the platform's own code and, as its control, through plain git, where it
must fire; ``count`` more are made by chance. Nothing may run on the host, no token go elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from django.conf import settings
from django.db import connections

from accounts.models import User
from campaigns.report import Report
from campaigns.repositories import (
    addresses,
    configured,
    contents,
    packs,
    servers,
    tenant,
    workspaces,
)
from campaigns.repositories.vector import ADDRESSES, FIXED, Outcome, Vector
from campaigns.stage import Stage
from repositories.git import mirror
from repositories.tests.make import make_upstream, plain_git

AT_ONCE = 3
NONE = "\N{EN DASH}"
CONTACT = {"CONTACT_SECONDS": 4, "CONTACT_MEMORY": 160 * 1024**2}
"""Smaller than they are, so that what is past them fits this machine."""
Chance = Callable[[int, random.Random, Path], Outcome]
BY_CHANCE: tuple[tuple[str, str, Chance], ...] = (
    ("by chance: an honest pack, changed or cut anywhere", packs.COMMITS, packs.damaged),
    ("by chance: names that some file system takes for .git", packs.CHANGES, packs.names_near_git),
    ("by chance: spellings of the loopback address", ADDRESSES, addresses.spellings),
)
KINDS = (servers, contents, workspaces, packs, configured, addresses)


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Play every vector once, and ``count`` by chance; each in a folder of its own."""
    report = Report("Hostile repositories", ["Vector", "What holds it", "outcome", "control"])
    ground = stage.folder / "ground"
    ground.mkdir()
    with contextlib.ExitStack() as stack:
        marker = stack.enter_context(_careless_worker(ground))
        for name, value in CONTACT.items():
            stack.enter_context(mock.patch.object(mirror, name, value))
        User.objects.create_user("addresses", "addresses@example.com")
        settings.OUTBOUND_ALLOWED = []
        settings.LOCAL_REPOSITORIES = []
        vectors = [*_vectors(), *_by_chance(count, seed)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = pool.map(functools.partial(_play, ground), vectors)
            for number, (vector, outcome) in enumerate(zip(vectors, outcomes, strict=True), 1):
                _add(report, vector, outcome)
                stage.progress(number, len(vectors), "vectors")
        for vector in _afterwards(stage, marker):
            vectors.append(vector)
            _add(report, vector, vector.play(Path(tempfile.mkdtemp(dir=ground))))
    held = sum(row[2] == "held" for row in report.rows)
    report.facts["vectors"] = f"{len(vectors)}, {held} held"
    return report


def _vectors() -> Iterator[Vector]:
    for kind in KINDS:
        yield from kind.vectors()


def _by_chance(count: int, seed: int) -> Iterator[Vector]:
    for number, (tried, wall, play) in enumerate(BY_CHANCE):
        share = max(1, count // len(BY_CHANCE))
        chance = random.Random(f"{seed}:{number}")
        yield Vector(tried, wall, functools.partial(play, share, chance))


def _play(ground: Path, vector: Vector) -> Outcome:
    try:
        return vector.play(Path(tempfile.mkdtemp(dir=ground)))
    except Exception as error:  # noqa: BLE001 - a vector that breaks the platform is a loss, and the others go on
        return Outcome(f"it broke: {type(error).__name__}: {error}")
    finally:
        connections.close_all()


def _add(report: Report, vector: Vector, outcome: Outcome) -> None:
    fired = f"{NONE} ({vector.no_control})" if vector.no_control else "fires"
    if outcome.got:
        report.losses.append(f"{vector.tried}: {outcome.got}")
    elif not outcome.control and not vector.no_control:
        fired = "did not fire"
        report.losses.append(f"{vector.tried}: the control did not fire, so it proves nothing")
    report.add(vector.tried, vector.wall, "GOT THROUGH" if outcome.got else "held", fired)


# --- what is looked at once for all ---------------------------------------------------------------


@contextlib.contextmanager
def _careless_worker(ground: Path) -> Iterator[Path]:
    """Give this process, which stands for a worker, all that git must not take from it."""
    marker, program = ground / "MARKER", ground / "evil"
    program.write_text(f"#!/bin/sh\ntouch {marker}\necho {tenant.TOKEN}\n")
    program.chmod(0o755)
    config = ground / "careless.gitconfig"
    config.write_text(
        f"[core]\n\tfsmonitor = {program}\n\tsshCommand = {program}\n\thooksPath = {ground}/hooks\n"
        f"[credential]\n\thelper = !{program}\n[uploadpack]\n\tpackObjectsHook = {program}\n"
    )
    hook = ground / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.symlink_to(program)
    given = {
        "GIT_ASKPASS": str(program), "GIT_CONFIG_GLOBAL": str(config), "GIT_SSH_COMMAND": str(program),
        "GIT_EXTERNAL_DIFF": str(program), "GIT_TEMPLATE_DIR": str(ground),
    }  # fmt: skip
    with mock.patch.dict(os.environ, given):
        yield marker


def _afterwards(stage: Stage, marker: Path) -> Iterator[Vector]:
    yield Vector(
        "worker: hooks, helpers and askpass in its own environment", FIXED,
        functools.partial(_own_environment, marker),
    )  # fmt: skip
    yield Vector(
        "server: leave the token in any file of the platform", "tokens travel in one process's environment",
        functools.partial(_kept_tokens, stage.folder / "var"),
    )  # fmt: skip


def _own_environment(marker: Path, folder: Path) -> Outcome:
    got = "a program ran on the host" if marker.exists() else ""
    work = make_upstream(folder / "work")
    plain_git("commit", "-q", "--allow-empty", "-m", "x", cwd=work, env=dict(os.environ))
    return Outcome(got, marker.exists())


def _kept_tokens(var: Path, folder: Path) -> Outcome:
    held = [path for path in var.rglob("*") if path.is_file() and not path.is_symlink()]
    got = [path for path in held if tenant.TOKEN.encode() in path.read_bytes()]
    work = make_upstream(folder / "work")
    plain_git("remote", "add", "origin", f"http://ada:{tenant.TOKEN}@127.0.0.1:9/app.git", cwd=work)
    fired = tenant.TOKEN in (work / ".git/config").read_text()
    return Outcome(f"it is in {got[0]}" if got else "", fired)
