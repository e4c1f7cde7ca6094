"""Worker death: a task of thirty steps is killed with SIGKILL wherever a run can be.

The same task left in peace says what must come out: the diff, the steps, the charges. Most tasks
are killed many times (LEASE_MAX_LOST is raised for them); a second part keeps it as it is, and
there two kills are survived and the third ends the task. Up to ``SMALL`` kills the lease times
are short; above, they are the defaults.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from django.core.management import call_command

from accounts.models import User
from asynccoder.tests.processes import wait_for
from billing import ledger
from campaigns.kill import gates, script
from campaigns.kill.crew import Crew, command_line
from campaigns.kill.evidence import gather, gather_account, taken_up
from campaigns.kill.field import Field, Player
from campaigns.kill.points import BOUNDARY, PLACES, Point, Shot, plan
from campaigns.kill.verdict import (
    LATEST_SECONDS,
    Facts,
    losses_of,
    losses_of_account,
    losses_of_given_up,
)
from campaigns.report import Report
from campaigns.stage import Stage
from repositories.models import Repository
from tasks.models import Task
from tasks.tests.world import SHORT, World, build_world, run_git

SMALL = 200
KILLS_PER_TASK = 22
BATCH = 15 * KILLS_PER_TASK
GRANT = 10**13
QUIET = {"LOG_LEVEL": "INFO", "MODEL_MAX_RETRIES": "0"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is played at once; other workers must have room for the runs of a killed one."""

    times: dict[str, str]
    workers: int
    slots: int
    at_once: int
    given_up: int
    survivors: int


SHORT_SIZE = Size(
    SHORT | {"LEASE_SECONDS": "4"}, workers=2, slots=2, at_once=3, given_up=1, survivors=1
)
LONG_SIZE = Size(QUIET, workers=3, slots=8, at_once=14, given_up=10, survivors=10)


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Kill at least ``count`` runs (one kill may hit several) and judge every task."""
    size = SHORT_SIZE if count <= SMALL else LONG_SIZE
    report = Report("Runs killed with SIGKILL", ["where", "killed", "p50 s", "p95 s", "max s"])
    with _world(stage) as world:
        granted = ledger.balance(world.owner.pk).balance
        environment = size.times | world.environment | _path(stage)
        environment["WORKER_SLOTS"] = str(size.slots)
        often = Crew(stage, environment | {"LEASE_MAX_LOST": "1000"})
        field = Field(stage, world, often, seed)
        undisturbed = _leave_in_peace(field, report)
        often.start(size.workers - 1)
        _kill_often(field, size, count - 3 * size.given_up - 2 * size.survivors, seed)
        _end(field, report)
        field.crew = Crew(stage, environment)
        field.crew.start(size.workers)
        # One after the other: a worker that is killed with the last ones must hit none of the first.
        field.play([_thrice(number)[:2] for number in range(size.survivors)], at_once=size.at_once)
        thrice = [_thrice(number) for number in range(size.given_up)]
        given_up = field.play(thrice, at_once=size.at_once)
        _end(field, report)
        # Each worker does so at its start and every hour.
        call_command("sweep", stdout=StringIO())
        _judge(field, undisturbed, given_up, report)
        report.losses += losses_of_account(gather_account(world.owner, granted))
    _tell(report, field, size)
    return report


def _kill_often(field: Field, size: Size, most: int, seed: int) -> None:
    while field.killed < most:
        kills = min(most - field.killed, BATCH)
        plans = plan(kills, tasks=-(-kills // KILLS_PER_TASK), seed=seed + len(field.players))
        field.play(plans, at_once=size.at_once)


@contextmanager
def _world(stage: Stage) -> Iterator[World]:
    owner = User.objects.create(username="alice", email="alice@example.com")
    User.objects.filter(pk=owner.pk).update(concurrent_tasks=1000)
    owner.refresh_from_db()
    folder = stage.folder / "upstream"
    with build_world(owner, [], stage.worker, folder, files=script.FILES) as world:
        ledger.grant(user_id=owner.pk, microcredits=GRANT, reference="gift:campaign")
        # The remote's own record of what was pushed, and when.
        run_git(folder, "config", "core.logAllRefUpdates", "always")
        Repository.objects.filter(pk=world.repository.pk).update(check_commands=[script.CHECK])
        world.repository.refresh_from_db()
        yield world


def _path(stage: Stage) -> dict[str, str]:
    folder = gates.install_git(stage.folder, stage.folder / "var" / "tasks")
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def _leave_in_peace(field: Field, report: Report) -> Facts:
    """Run the task once and kill nothing: this is what all others must come to."""
    field.world.server.script = field.answer
    field.crew.start(1)
    field.play([[]], at_once=1)
    player = field.players.pop()
    facts = gather(player, field.folder / "upstream")
    report.losses += losses_of(facts, facts)
    field.ordinals = _ordinals(facts)
    begun, ended = player.its_task.started_at, player.its_task.completed_at
    if begun and ended:
        report.facts["the task left in peace"] = f"{(ended - begun).total_seconds():.0f} s"
    return facts


def _ordinals(facts: Facts) -> dict[tuple[str, int], int]:
    """Return the row of each model call, and of the tool that follows it, in the journal."""
    found: dict[tuple[str, int], int] = {}
    call = 0
    for step in sorted(facts.steps, key=lambda step: step.ordinal):
        if step.kind == "model_call":
            call += 1
        if step.kind in ("model_call", "tool_call"):
            found.setdefault((step.kind, call), step.ordinal)
    return found


def _thrice(number: int) -> list[Shot]:
    """Return three kills at step boundaries; the third, which is one too many, is the worker's."""
    first = number % 9 + 2
    targets = ("run", "run", ("supervisor", "worker")[number % 2])
    return [Shot(Point(first + 3 * more, BOUNDARY), target) for more, target in enumerate(targets)]


def _end(field: Field, report: Report) -> None:
    """End the workers; nothing of the stage may run then but its Redis."""
    wait_for(
        lambda: not Task.objects.exclude(lease_owner="").exists(),
        seconds=60,
        what="no lease is held",
    )
    field.crew.end()
    folder = str(field.folder)
    for entry in Path("/proc").glob("[0-9]*"):
        line = command_line(int(entry.name))
        if folder in line and "redis" not in line and "valkey" not in line:
            report.losses.append(f"still runs at the end: {line[:200]}")


def _judge(field: Field, undisturbed: Facts, given_up: Sequence[Player], report: Report) -> None:
    report.losses += field.losses
    for player in field.players:
        facts = gather(player, field.folder / "upstream")
        if player in given_up:
            report.losses += losses_of_given_up(facts)
        else:
            report.losses += losses_of(facts, undisturbed)


def _tell(report: Report, field: Field, size: Size) -> None:
    by_place: dict[str, list[float]] = {place.what: [] for place in PLACES}
    by_place[""] = []
    for player in field.players:
        for kill, one in zip(player.kills, taken_up(player), strict=True):
            by_place[kill.place].append(one)
    for place, seconds in by_place.items():
        if seconds:
            report.add(place or "anywhere, beside an aimed one", len(seconds), *_spread(seconds))
    every = [one for each in by_place.values() for one in each]
    report.add("all", len(every), *_spread(every))
    report.facts |= {
        "tasks": f"{len(field.players)}, the last {size.survivors + size.given_up} of them with "
        f"the default LEASE_MAX_LOST: {size.given_up} killed once too often, which must end them",
        "runs killed": len(every),
        "lease times": "short" if size is SHORT_SIZE else "the defaults (30 s, renewed every 10 s)",
        "killed were": _count_targets(field.players),
        "places that a run had passed before it could be killed": sum(
            len(player.missed) for player in field.players
        ),
        f"until a worker went on with the run, at most {LATEST_SECONDS:.0f} s": _said(every),
        "from a task's last kill to its end, the rest of its work included": _said(
            [_until_end(player) for player in field.players if player.kills]
        ),
    }


def _until_end(player: Player) -> float:
    ended = player.its_task.completed_at
    return ended.timestamp() - player.kills[-1].since if ended else float("inf")


def _said(seconds: Sequence[float]) -> str:
    return "p50 {} s, p95 {} s, max {} s".format(*_spread(seconds))


def _count_targets(players: Sequence[Player]) -> str:
    targets = [kill.target for player in players for kill in player.kills]
    counts = {target: targets.count(target) for target in dict.fromkeys(targets)}
    return ", ".join(f"{count} by the death of the {target}" for target, count in counts.items())


def _spread(seconds: Sequence[float]) -> tuple[str, str, str]:
    cuts = (
        statistics.quantiles(seconds, n=20, method="inclusive")
        if len(seconds) > 1
        else [seconds[0]] * 19
    )
    return f"{cuts[9]:.1f}", f"{cuts[18]:.1f}", f"{max(seconds):.1f}"
