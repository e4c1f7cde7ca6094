"""The tasks that are killed, one beside the other, and who hears what of each."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import transaction

from campaigns.kill import gates, script
from campaigns.kill.crew import Aim, Crew, Hit
from campaigns.kill.gates import CommandGate, Gate, GitGate, ModelGate, Seen
from campaigns.kill.points import Point, Shot
from campaigns.stage import Stage
from repositories import connect
from tasks.models import Status, Task
from tasks.tests.world import World

KEY = re.compile(r"Task number (\d+)\.")
MOMENT_SECONDS = 0.6
LOCKED_SECONDS = 0.2
"""How long a run is given to come to the row that it finds locked; it cannot pass it."""
STILL_SECONDS = 600.0
LEFT_SECONDS = 30.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Kill:
    """One run that was killed. ``place`` is empty for one that ran beside the aimed one.

    ``since`` is when somebody could go on: the kill, or the restart when no worker was left.
    """

    place: str
    target: str
    at: float
    since: float


@dataclass(eq=False)
class Player:
    """One task with the kills that wait for it."""

    number: int
    aims: list[Shot]
    waits_for: set[int]
    """The steps whose commands wait for a file: their text is the same in every attempt."""
    task: Task | None = None
    asked: int = 0
    gate: Gate | None = None
    late: GitGate | None = None
    """Where a git of a dead attempt waits for that of the next one."""
    is_held_off: bool = False
    kills: list[Kill] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    requests: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """How often the model server was asked for each call."""
    changed_at: float = field(default_factory=time.monotonic)
    last_sequence: int = -1

    @property
    def its_task(self) -> Task:
        assert self.task is not None
        return self.task


class Field:
    """All players of one part of the campaign."""

    def __init__(self, stage: Stage, world: World, crew: Crew, seed: int) -> None:
        self.stage = stage
        self.folder = stage.folder
        self.world = world
        self.crew = crew
        self.players: list[Player] = []
        self.ordinals: dict[tuple[str, int], int] = {}
        """The row of each (kind, call) in the journal of the undisturbed run."""
        self.losses: list[str] = []
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._planned = 0

    # --- what the model server is told -----------------------------------------------------

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the turn for a request; its parts pass the gate of its player."""
        found = KEY.search(str(body["messages"]))
        player = next(p for p in self.players if found and p.number == int(found[1]))
        call = 1 + sum(1 for message in body["messages"] if message["role"] == "assistant")
        player.requests[call] += 1
        player.asked = max(player.asked, call)
        self._arm(player)
        gate = player.gate
        if not isinstance(gate, ModelGate):
            gate = ModelGate(0, "")
        gate.pass_by(call, "asked")
        go = self._go(player, call) if call in player.waits_for else None
        return script.turn(call, go) | {"passing": lambda part: gate.pass_by(call, part)}

    def _go(self, player: Player, call: int) -> Path:
        return connect.mirror_path(self.world.repository) / "go" / f"{player.number}-{call}"

    # --- one player --------------------------------------------------------------------------

    def add(self, shots: list[Shot]) -> Player:
        """Create a task; what it is first to be killed at is watched before a worker sees it."""
        player = Player(len(self.players), list(shots), self._waits_for(shots))
        self.players.append(player)
        with transaction.atomic():
            player.task = self.world.create(prompt=f"Task number {player.number}. Make it so.")
            self._arm(player)
        return player

    def _waits_for(self, shots: list[Shot]) -> set[int]:
        return {shot.point.call for shot in shots if shot.point.place.seen == ("command",)}

    def _arm(self, player: Player) -> None:
        """Watch for the next place once the run has come near; the server's threads call it, too."""
        with self._lock:
            if player.gate is None and player.aims and not player.is_held_off:
                shot = player.aims[0]
                if player.asked >= shot.point.from_call:
                    player.gate = self._gate(player, shot.point)

    def _gate(self, player: Player, point: Point) -> Gate:
        kind, *details = point.place.seen
        task_id = player.its_task.pk
        makers: dict[str, Callable[[], Gate]] = {
            "model": lambda: ModelGate(point.call, details[0]),
            "git": lambda: GitGate.close(self.folder, task_id, *details),
            "command": lambda: self._command(player, point.call),
            "process": lambda: gates.process_seen(task_id, details[0]),
            "row": lambda: gates.row_seen(
                task_id, self.ordinals[details[0], point.call], details[1]
            ),
            "result": lambda: gates.result_seen(task_id),
            "moment": lambda: gates.moment(self._chance.uniform(0, MOMENT_SECONDS)),
        }
        return makers[kind]()

    # --- all of them -------------------------------------------------------------------------

    def play(self, plans: Iterable[list[Shot]], *, at_once: int) -> list[Player]:
        """Run a task for each plan, some at once, until all have ended; return them."""
        waiting, playing, looked = list(plans), list[Player](), 0.0
        before = len(self.players)
        self._planned += sum(map(len, waiting))
        while waiting or playing:
            while waiting and len(playing) < at_once:
                playing.append(self.add(waiting.pop(0)))
            for player in playing:
                self._look(player)
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                playing = [player for player in playing if not self._is_over(player)]
            is_urgent = any(isinstance(player.gate, Seen) for player in playing)
            time.sleep(0.01 if is_urgent else 0.03)
        return self.players[before:]

    def _tell(self) -> None:
        done = self._planned - sum(len(player.aims) for player in self.players)
        self.stage.progress(done, self._planned, f"{self.killed} runs killed; planned")

    @property
    def killed(self) -> int:
        return sum(len(player.kills) for player in self.players)

    def _look(self, player: Player) -> None:
        if player.late is not None and player.late.is_passed():
            player.late.open()
            player.late = None
        gate = player.gate
        if gate is None:
            return
        if gate.reached():
            self._shoot(player, gate)
        elif self._is_past(player):
            self._miss(player)

    def _is_past(self, player: Player) -> bool:
        """Tell whether the run has gone by a place, for what was seen before it was seen late."""
        call = player.aims[0].point.call
        if player.asked > call:
            return True
        later = [aim.point for aim in player.aims[1:] if aim.point.call == call]
        waits = any(point.place.seen == ("command",) for point in later)
        return waits and self._command(player, call).reached()

    def _command(self, player: Player, call: int) -> CommandGate:
        return CommandGate(player.its_task.pk, self._go(player, call))

    def _is_over(self, player: Player) -> bool:
        task = player.its_task
        task.refresh_from_db(fields=["status", "event_sequence"])
        if player.last_sequence != task.event_sequence:
            player.last_sequence, player.changed_at = task.event_sequence, time.monotonic()
        is_still = time.monotonic() - player.changed_at > STILL_SECONDS
        if is_still:
            self.losses.append(f"task {player.number} stands still at call {player.asked}")
        while (task.is_finished or is_still) and player.aims:
            self._miss(player)
        return task.is_finished or is_still

    def _miss(self, player: Player) -> None:
        player.missed.append(player.aims[0].point.place.what)
        self._let_go([player])

    def _let_go(self, players: Iterable[Player], hit: Hit | None = None) -> None:
        """Open the gates, see that nothing of a kill is left, and only then watch for the next."""
        for player in players:
            player.is_held_off = True
            shot = player.aims.pop(0)
            gate, player.gate = player.gate, None
            if isinstance(gate, GitGate) and shot.point.place.late and hit is not None:
                gate.close_again()
                player.late, hit = gate, None
            elif gate is not None:
                gate.open()
        if hit is not None:
            left = hit.left(seconds=LEFT_SECONDS)
            self.losses += [f"still there after a kill: {line}" for line in left]
        for player in players:
            player.is_held_off = False
            self._arm(player)

    def _shoot(self, player: Player, gate: Gate) -> None:
        """Kill what the shot is aimed at, note every run that died of it, and let them go."""
        task, shot = player.its_task, player.aims[0]
        task.refresh_from_db()
        if task.is_finished or not task.lease_owner:
            return
        owner = task.lease_owner
        aim = self.crew.aim(shot.target, int(owner.split(":")[1]), str(task.pk))
        beside = [] if shot.target == "run" else [p for p in self.players if p is not player]
        alive = set(aim.there.parents) if aim else set()
        before = [other for other in beside if self._is_hit(other, shot.target, owner, alive)]
        hit = self._fire(aim, task, gate if shot.point.place.locked else None) if aim else None
        task.refresh_from_db()
        if hit is None or task.is_finished:
            self._miss(player)
            return
        # A lease may have been taken back meanwhile, and another run have begun just before.
        after = [other for other in beside if self._is_hit(other, shot.target, owner, alive)]
        since = time.time() if shot.target == "machine" else hit.at
        aimed = [player]
        player.kills.append(Kill(shot.point.place.what, shot.target, hit.at, since))
        for other in (other for other in beside if other in before or other in after):
            if other.its_task.is_finished:
                continue
            place = ""
            if other.gate is not None and not isinstance(other.gate, Seen) and other.gate.reached():
                place = other.aims[0].point.place.what
                aimed.append(other)
            other.kills.append(Kill(place, shot.target, hit.at, since))
        self._let_go(aimed, hit)
        self._tell()

    def _fire(self, aim: Aim, task: Task, locked: Gate | None) -> Hit:
        if locked is None:
            return self.crew.fire(aim)
        with transaction.atomic():
            Task.objects.select_for_update().get(pk=task.pk)
            locked.open()
            time.sleep(LOCKED_SECONDS)
            return self.crew.fire(aim)

    def _is_hit(self, other: Player, target: str, owner: str, alive: set[int]) -> bool:
        """Tell whether a run beside the aimed one dies with it: its worker does, or all do.

        One whose worker was dead already still has its lease, and dies only once.
        """
        task = other.its_task
        if not task.is_finished:
            task.refresh_from_db()
        if task.status != Status.RUNNING or not task.lease_owner:
            return False
        is_there = int(task.lease_owner.split(":")[1]) in alive
        return is_there and (target == "machine" or task.lease_owner == owner)
