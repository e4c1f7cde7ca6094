"""Upstreams on this machine whose own configuration, hooks and attributes name programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from campaigns.repositories.vector import FIXED, Outcome, Vector
from repositories import git
from repositories.tests.upstreams import ATTACKS, give_a_second_commit, make_scene


def vectors() -> Iterator[Vector]:
    for name in ATTACKS:
        yield Vector(f"upstream: {name.replace('_', ' ')}", FIXED, partial(_play, name))


def _play(name: str, folder: Path) -> Outcome:
    scene = make_scene(folder)
    carelessly = ATTACKS[name](scene)
    give_a_second_commit(scene)
    scene.marker.unlink(missing_ok=True)
    with contextlib.suppress(git.GitFailed):
        scene.whole_service()
    got = "a program ran on the host" if scene.marker.exists() else ""
    carelessly()
    return Outcome(got, scene.marker.exists())
