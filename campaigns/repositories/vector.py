"""One vector: what is tried, what holds it, and how both ways of doing it came out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from repositories.tests.make import IDENTITY

REFUSES_TOO = "git refuses it, too"
CHECKED = "objects come in checked packs alone"
FIXED = "fixed settings, an empty environment"
ADDRESSES = "addresses are checked before any call"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a vector got through the platform, "" where it was held; and whether its control fired."""

    got: str = ""
    control: bool = False


@dataclass(frozen=True, slots=True)
class Vector:
    """One row. ``play`` gets an empty folder; ``no_control`` says why plain git cannot fall to it."""

    tried: str
    wall: str
    play: Callable[[Path], Outcome]
    no_control: str = ""


def plainly(command: str, cwd: Path, *, seconds: float = 60, **environment: str) -> str:
    """Run a line of shell as a careless person would; return all that it says.

    One that does not end in time has said "still waiting".
    """
    try:
        done = subprocess.run(
            ["bash", "-c", command], cwd=cwd, env=IDENTITY | environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "still waiting"
    return done.stdout.decode("utf-8", "replace")
