"""A1 to A3: what a step, a start, a long run and the memory of the agent's loop cost.

A step of ours is the product's whole: a fresh command in the kept sandbox, the journal's rows,
the charge, the events and their notices, and the checkpoint where files changed. It runs through
a real worker and its fork server. The peer is mini-swe-agent with bubblewrap; without it the
yardstick is a bare loop over http.client that has no sandbox and writes nothing down.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import accounting, fake_model, tracing
from benchmarks.fake_model import FakeModel, Script
from benchmarks.generated import OBSERVED, make_repository
from benchmarks.instance import Instance, open_instance
from benchmarks.peers import peer
from benchmarks.report import Series, interleave, judge, judge_figure

HERE = Path(__file__).parent
OBSERVING = f"cat {OBSERVED} # {{number}}"
CHANGING = f"cat {OBSERVED}; echo {{number}} >> notes.txt"


@dataclass
class Figures:
    """What is measured beside the steps, a value a run."""

    start_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    pss_mb: list[float] = field(default_factory=list)
    worker_rss_mb: list[float] = field(default_factory=list)
    server_rss_mb: list[float] = field(default_factory=list)
    whole_pss_mb: list[float] = field(default_factory=list)


Measure = Callable[[int, Figures], list[float]]


def run(*, quick: bool, rounds: int) -> bool:
    short, long, longest = (3, 10, 12) if quick else (50, 200, 500)
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-loop-") as name,
        fake_model.running() as fake,
    ):
        Path(name).chmod(0o755)
        size = {"files": 50, "commits": 3} if quick else {"files": 2000, "commits": 50}
        repository = make_repository(Path(name, "repository.git"), **size)
        other, measure_other = _yardstick(fake, Path(name), quick=quick)
        with open_instance(fake, repository) as instance:
            if not quick:
                instance.wait_until_warm()
            contest = Contest(instance, other, measure_other)
            goals = [
                *contest.short_runs(short, rounds),
                *contest.long_run(long, rounds),
                *contest.longest_run(longest),
            ]
    return all(goals)


def profile(*, quick: bool) -> None:
    """Print where the time of a step goes, and of one that changes a file."""
    steps = 5 if quick else 50
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-loop-") as name,
        fake_model.running() as fake,
    ):
        Path(name).chmod(0o755)
        repository = make_repository(Path(name, "repository.git"), files=2000, commits=50)
        with open_instance(fake, repository, is_traced=True) as instance:
            if not quick:
                instance.wait_until_warm()
            for what, command in (("a step", OBSERVING), ("a step that changes a file", CHANGING)):
                _ours(instance, steps, Figures(), command=command)
                stamps, spans = fake.stamps(), instance.spans()
                run = [span for span in spans if span.name == "run"][-1]
                windows = [(run.pid, a.replied, b.begin) for a, b in itertools.pairwise(stamps)]
                tracing.print_profile("loop", what, spans, windows[:steps])


class Contest:
    """Ours and the yardstick by turns."""

    def __init__(self, instance: Instance, other: str, measure_other: Measure) -> None:
        self.instance = instance
        self.other = other
        self.measure_other = measure_other

    @property
    def is_peer(self) -> bool:
        return self.other == "mini-swe-agent"

    def short_runs(self, steps: int, rounds: int) -> list[bool]:
        ours, changing, others = Figures(), Figures(), Figures()
        names = [f"ours, {steps} steps", f"ours, each changes a file, {steps} steps"]
        names.append(f"{self.other}, {steps} steps")
        series = interleave(
            {
                names[0]: lambda: _ours(self.instance, steps, ours),
                names[1]: lambda: _ours(self.instance, steps, changing, command=CHANGING),
                names[2]: lambda: self.measure_other(steps, others),
            },
            bench="loop", rounds=rounds,
        )  # fmt: skip
        for name, figures in zip(names, (ours, changing, others), strict=True):
            series[name].cpu_ms = figures.cpu_ms[1:]
            series[name].rss_mb = max(figures.rss_mb)
            series[name].print()
        mine, changed, theirs = (series[name] for name in names)
        added = zip(changed.medians(), mine.medians(), strict=True)
        Series("loop", "ours, what a checkpoint adds", [[a - b] for a, b in added]).print()
        goals = [self._judge_step(mine, theirs, steps=steps, goal=0.35)]
        return goals + self._start_and_memory(ours, others)

    def _start_and_memory(self, ours: Figures, others: Figures) -> list[bool]:
        for name, figures in (("ours", ours), (self.other, others)):
            Series("loop", f"{name}, start", [[value] for value in figures.start_ms[1:]]).print()
        for name, values in (
            ("run, PSS", ours.pss_mb),
            ("worker, RSS", ours.worker_rss_mb),
            ("fork server, RSS", ours.server_rss_mb),
            ("supervisor, worker, fork server and run, PSS", ours.whole_pss_mb),
        ):
            Series("loop", f"ours, {name}", [[value] for value in values[1:]], unit="MB").print()
        if not self.is_peer:
            return []
        against = self.other
        return [
            judge("start", ours.start_ms[1:], others.start_ms[1:], goal=0.15, against=against),
            judge(
                "memory of a worker", ours.worker_rss_mb, others.rss_mb, goal=0.5, against=against
            ),
            judge("memory of a run (PSS)", ours.pss_mb, others.rss_mb, goal=0.5, against=against),
        ]

    def long_run(self, steps: int, rounds: int) -> list[bool]:
        """Growth is ours alone; the peer is run once to be shown beside it."""
        mine = Series("loop", f"ours, {steps} steps")
        theirs = Series("loop", f"{self.other}, {steps} steps")
        ours, others = Figures(), Figures()
        for number in range(rounds):
            print(f"loop: {steps} steps, round {number + 1}/{rounds}", file=sys.stderr, flush=True)
            mine.rounds.append(_ours(self.instance, steps, ours))
        theirs.rounds.append(self.measure_other(steps, others))
        mine.cpu_ms, theirs.cpu_ms = ours.cpu_ms, others.cpu_ms
        for series in (mine, theirs):
            series.print()
            growth = [[_growth(values)] for values in series.rounds]
            Series("loop", f"{series.case}, last tenth / first tenth", growth, unit="x").print()
        grown = statistics.median(_growth(values) for values in mine.rounds)
        goals = [judge_figure(f"growth over {steps} steps", grown, goal=1.5, unit="x")]
        if self.is_peer:
            same = theirs.medians() * rounds
            goals.append(_judged(f"step at {steps} steps", mine.medians(), same, 0.15, self.other))
        return goals

    def longest_run(self, steps: int) -> list[bool]:
        ours, others = Figures(), Figures()
        print(f"loop: {steps} steps", file=sys.stderr, flush=True)
        mine = Series("loop", f"ours, {steps} steps", [_ours(self.instance, steps, ours)])
        theirs = Series("loop", f"{self.other}, {steps} steps", [self.measure_other(steps, others)])
        mine.cpu_ms, theirs.cpu_ms = ours.cpu_ms, others.cpu_ms
        mine.print()
        theirs.print()
        if not self.is_peer:
            return []
        name = f"CPU over {steps} steps"
        return [_judged(name, ours.cpu_ms, others.cpu_ms, 0.08, self.other)]

    def _judge_step(self, mine: Series, theirs: Series, *, steps: int, goal: float) -> bool:
        goal = goal if self.is_peer else 3.0
        return _judged(f"step at {steps} steps", mine.medians(), theirs.medians(), goal, self.other)


def _judged(
    name: str, ours: Sequence[float], others: Sequence[float], goal: float, against: str
) -> bool:
    return judge(name, ours, others, goal=goal, against=against)


def _growth(steps: Sequence[float]) -> float:
    tenth = max(1, len(steps) // 10)
    return statistics.median(steps[-tenth:]) / statistics.median(steps[:tenth])


def _ours(
    instance: Instance,
    steps: int,
    figures: Figures,
    *,
    command: str = OBSERVING,
) -> list[float]:
    """Run one task and return its steps' milliseconds; the run is held at its end and looked at."""
    worker = instance.worker.pid
    before = accounting.cpu_ms(accounting.below(worker))
    status = "done" if command == CHANGING else "no_change_needed"
    instance.fake.play(Script(steps, command, status, is_held=True))
    task = instance.create(steps=steps)
    instance.fake.wait_for(steps + 1)
    held = instance.run_process()
    rss, pss = accounting.memory_mb(held.pid)
    figures.rss_mb.append(rss)
    figures.pss_mb.append(pss)
    supervisor, itself, server = (accounting.memory_mb(pid) for pid in _worker(worker))
    figures.worker_rss_mb.append(itself[0])
    figures.server_rss_mb.append(server[0])
    figures.whole_pss_mb.append(supervisor[1] + itself[1] + server[1] + pss)
    instance.fake.go_on()
    instance.wait_for_end(task)
    used = accounting.cpu_ms(accounting.below(worker)) - before
    # The fork server adopts and reaps whatever a run has left: nothing is missing.
    figures.cpu_ms.append(used)
    stamps = instance.fake.stamps()
    began = task.log.get(kind="task.started").created_at.timestamp()
    figures.start_ms.append(1000 * (stamps[0].wall - began))
    return fake_model.overheads(stamps, steps)


def _worker(supervisor: int) -> list[int]:
    """Return the worker's own processes: its supervisor, itself and its fork server."""
    tree = accounting.below(supervisor)
    return [process.pid for process in tree if process.session == tree[0].session]


# --- the yardstick -----------------------------------------------------------------------------


def _yardstick(fake: FakeModel, folder: Path, *, quick: bool) -> tuple[str, Measure]:
    from tasks.sandbox.toolchain import find_bwrap

    work = folder / "work"
    work.mkdir()
    (work / OBSERVED).write_text(("x" * 99 + "\n") * 15)
    url = fake.url("plain")
    python = peer("python")
    if python is None or peer("mini") is None or quick:
        floor = [sys.executable, str(HERE / "floor_loop.py"), url, str(work)]
        return "http.client loop", lambda steps, figures: _other(fake, floor, steps, figures)
    mini = [str(python), str(HERE / "mini_loop.py"), url, str(find_bwrap()), str(work)]
    return "mini-swe-agent", lambda steps, figures: _other(fake, mini, steps, figures)


def _other(fake: FakeModel, command: list[str], steps: int, figures: Figures) -> list[float]:
    """Run the yardstick's process to its end; its CPU holds that of all it has waited for."""
    fake.play(Script(steps))
    began = time.monotonic()
    process = subprocess.Popen([*command, str(steps)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    _, status, use = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended = json.loads(said.splitlines()[-1]) if process.returncode == 0 else {}
    if ended.get("ended") != "Submitted":
        raise RuntimeError(f"{command[1]} ended with {process.returncode}: {said[-500:]}")
    stamps = fake.stamps()
    figures.start_ms.append(1000 * (stamps[0].begin - began))
    figures.cpu_ms.append(1000 * (use.ru_utime + use.ru_stime))
    figures.rss_mb.append(ended["rss_mb"])
    return fake_model.overheads(stamps, steps)
