"""C: what a command in a sandbox costs, in a new one and in one that is kept.

The yardstick is the same command without any sandbox: ``bash -c true``.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import interleave, judge
from tasks.sandbox.base import Command, Workspace
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import prepare_owned
from tasks.sandbox.toolchain import Toolchain

NOTHING = ["bash", "-c", "true"]


def run(*, quick: bool, rounds: int) -> bool:
    count = 10 if quick else 100
    with tempfile.TemporaryDirectory(prefix="benchmark-sandbox-") as name:
        Path(name).chmod(0o755)
        base, upper, work = (prepare_owned(Path(name, part)) for part in ("base", "upper", "work"))
        toolchain = Toolchain.of_platform()
        workspace = Workspace(base, upper, work)

        def in_a_new_one() -> None:
            with Bubblewrap(workspace, toolchain=toolchain) as sandbox:
                assert sandbox.run(Command(NOTHING)).exit_code == 0

        with Bubblewrap(Workspace(base), toolchain=toolchain) as kept:
            series = interleave(
                {
                    "bash -c true, plain": lambda: _timed(_plain, count),
                    "the same in a new sandbox": lambda: _timed(in_a_new_one, count // 5),
                    "the same in the kept sandbox": lambda: _timed(
                        lambda: kept.run(Command(NOTHING)), count
                    ),
                },
                bench="sandbox", rounds=rounds,
            )  # fmt: skip
    for one in series.values():
        one.print()
    plain, new, old = (one.medians() for one in series.values())
    against = "bash -c true"
    return all(
        [
            judge("a command in a new sandbox", new, plain, goal=6.0, against=against),
            judge("a command in the kept sandbox", old, plain, goal=1.0, against=against),
        ]
    )


def _timed(action: Callable[[], object], count: int) -> Sequence[float]:
    """Return the milliseconds of each of so many runs."""
    values = []
    for _ in range(count):
        began = time.perf_counter()
        action()
        values.append(1000 * (time.perf_counter() - began))
    return values


def _plain() -> None:
    subprocess.run(
        NOTHING, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=True, env=dict(os.environ),
    )  # fmt: skip
