"""C: what a command in a sandbox costs, in a new one and in one that is kept.

The yardstick is the same command without any sandbox: ``bash -c true``.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import interleave, judge
from tasks.sandbox import launch
from tasks.sandbox.base import Command, Limits, Workspace
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.flags import Plan, command_line, host_paths
from tasks.sandbox.ownership import prepare_owned
from tasks.sandbox.toolchain import Toolchain, find_bwrap

NOTHING = ["bash", "-c", "true"]
TRUE = "/usr/bin/true"
PARTS = (
    "a program", "its user, and folders that this one can reach",
    "bubblewrap: namespaces and mounts", "the init and its watch", "the command",
    "the end of all processes",
)  # fmt: skip


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


def profile(*, quick: bool) -> None:
    """Print where the time of a command in a new sandbox goes, by leaving out more and more."""
    with tempfile.TemporaryDirectory(prefix="benchmark-sandbox-") as name:
        Path(name).chmod(0o755)
        base, upper, work = (prepare_owned(Path(name, part)) for part in ("base", "upper", "work"))
        parts = _parts(Workspace(base, upper, work), 5 if quick else 50)
    before = 0.0
    for part, value in parts.items():
        line = {"bench": "sandbox", "profile": "a command in a new sandbox", "part": part}
        print(
            json.dumps(line | {"ms": round(value - before, 2), "sum": round(value, 2)}), flush=True
        )
        before = value


def _parts(workspace: Workspace, count: int) -> dict[str, float]:
    """Return the median ms of each thing with all those before it."""
    toolchain = Toolchain.of_platform()
    plan = Plan(workspace, Limits(), toolchain, "benchmark")
    stage = launch.Stage([find_bwrap().resolve().parent, *host_paths(plan)])
    user = launch._as_sandbox_user(stage)
    laps: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(count):
        laps["a program"] += _timed(lambda: _wait_for([TRUE]), 1)
        laps["its user, and folders that this one can reach"] += _timed(
            lambda: _wait_for([*user, TRUE]), 1
        )
        laps["bubblewrap: namespaces and mounts"] += _timed(lambda: _bare(plan, stage, user), 1)
        began = time.perf_counter()

        def lap(part: str, began: float = began) -> None:
            laps[part].append(1000 * (time.perf_counter() - began))

        with Bubblewrap(workspace, toolchain=toolchain) as sandbox:
            lap("the init and its watch")
            assert sandbox.run(Command(NOTHING)).exit_code == 0
            lap("the command")
        lap("the end of all processes")
    return {part: statistics.median(values) for part, values in laps.items()}


def _bare(plan: Plan, stage: launch.Stage, user: list[str]) -> None:
    """Run a program in the same sandbox in the init's place."""
    outer, inner = socket.socketpair()
    with outer, inner, launch._descriptors(plan, inner) as fds:
        whole = command_line(plan, fds, stage.find)
        begin = [*user, stage.find(find_bwrap().resolve()), *whole[: whole.index("--") + 1]]
        _wait_for([*begin, TRUE], fds.all)


def _wait_for(argv: list[str], fds: tuple[int, ...] = ()) -> None:
    subprocess.run(argv, env={}, check=True, pass_fds=fds, start_new_session=True, cwd="/")
