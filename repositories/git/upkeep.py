"""Keep a mirror quick after many fetches, without dropping an object.

Task stores and base trees borrow a mirror's objects, also those that no branch names any more.
A geometric repack rolls packs and loose objects up without asking what is reachable
(git-repack(1), ``--geometric``), so nothing that was there is lost.
"""

from __future__ import annotations

import logging
from pathlib import Path

from repositories.git.command import Bounds, Call, run

logger = logging.getLogger(__name__)

PACKS = 20
LOOSE_IN_ONE_FOLDER = 8
"""About 2,000 in all: names are spread evenly over 256 folders."""
CPU_SECONDS = 600


def roll_up(mirror: Path, *, seconds: float) -> None:
    """Join small packs and loose objects when there are many. The caller holds the mirror's lock.

    A failure is only logged: the mirror is as it was, merely not quicker.
    """
    packs = sum(1 for _ in mirror.glob("objects/pack/pack-*.pack"))
    loose = sum(1 for _ in mirror.glob("objects/17/*"))
    if packs <= PACKS and loose <= LOOSE_IN_ONE_FOLDER:
        return
    bounds = Bounds(seconds=seconds, cpu=CPU_SECONDS)
    call = Call(args=["repack", "-q", "-d", "--geometric=2"], git_dir=mirror, bounds=bounds)
    finished = run(call)
    if finished.stopped or finished.exit_code:
        why = finished.stopped or finished.errors.strip()[-300:]
        logger.warning("the mirror %s was not repacked: %s", mirror.parent.name, why)
