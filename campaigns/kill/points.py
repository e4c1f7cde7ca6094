"""Where a run is killed, each place defined by something that can be seen, and what is killed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from campaigns.kill import script


@dataclass(frozen=True, slots=True)
class Place:
    """A place within a part of a run: the start, a step or the end.

    ``seen`` names what shows it (``campaigns.kill.gates`` knows how): a row of the journal, the
    model server at a part of its answer, a command, a process in the sandbox, git on the host.
    With ``locked`` the task's row is locked before the run goes on from there, so that what the
    run does next cannot be written. With ``late`` the git that is held there outlives the run and
    goes on together with that of the next attempt.
    """

    what: str
    seen: tuple[str, ...]
    steps: Sequence[int] = ()
    locked: bool = False
    late: bool = False

    @property
    def is_alone(self) -> bool:
        """Tell whether a run can be killed nowhere else at the same step."""
        return self.late or self.seen == ("moment",)


CALLS = range(1, script.CALLS + 1)
STEPS = range(1, script.STEPS + 1)
COMMANDS, CHANGING = script.commands(), script.changing()
START = (
    Place("the task's store is being made", ("git", "init", "before")),
    Place("the checks run on the base", ("process", script.CHECK)),
)
STEP = (
    Place("a model call's row is written", ("row", "model_call", "started"), CALLS),
    Place("the model server is asked", ("model", "asked"), CALLS),
    Place("half of the answer has come", ("model", "half"), CALLS),
    Place("the answer lacks its end mark", ("model", "end"), CALLS),
    Place("the answer is there and not settled", ("model", "end"), CALLS, locked=True),
    Place("any moment after a model call", ("moment",), STEPS),
    Place("a model call is settled", ("row", "model_call", "done"), STEPS),
    Place("a tool's row is written", ("row", "tool_call", "started"), STEPS),
    Place("a command runs", ("command",), COMMANDS),
    Place("git adds in the sandbox", ("process", "add\0-A"), script.BIG_STEPS),
    Place("git packs in the sandbox", ("process", "pack-objects"), script.BIG_STEPS),
    Place("a checkpoint's pack is taken out", ("git", "index-pack", "before"), CHANGING),
    Place("a checkpoint's pack is indexed", ("git", "index-pack", "after"), CHANGING),
    Place("a checkpoint has no name yet", ("git", "update-ref", "before"), CHANGING),
    Place("a checkpoint has its name", ("git", "update-ref", "after"), CHANGING),
    Place("a tool is done and not settled", ("git", "update-ref", "after"), CHANGING, locked=True),
    Place("a step is settled (its boundary)", ("row", "tool_call", "done"), STEPS),
)
END = (
    Place("the checks run on the result", ("process", script.CHECK)),
    Place("the final commit is not made yet", ("git", "commit-tree", "before")),
    Place("the final commit is made", ("git", "commit-tree", "after")),
    Place("the push begins", ("git", "push", "before")),
    Place("the push begins and goes on late", ("git", "push", "before"), late=True),
    Place("the branch is pushed", ("git", "push", "after")),
    Place("the push is done and not settled", ("git", "push", "after"), locked=True),
    Place("the result is written", ("result",)),
)
BOUNDARY = STEP[-1]
PLACES = (*START, *STEP, *END)
TARGETS = {"run": 14, "worker": 2, "supervisor": 2, "fork server": 2, "machine": 1}
"""What is killed, and how often: a run's process alone, the worker's, its supervisor's, the fork
server's, or every process of every worker and the embedded Redis at once."""


@dataclass(frozen=True, slots=True)
class Point:
    """One kill to be: the model call whose step it is at (0 and one more than all: start, end)."""

    call: int
    place: Place

    @property
    def from_call(self) -> int:
        """Return the call at which the place comes near: its row is written before it is asked."""
        return min(self.call - (self.place is STEP[0]), script.CALLS)

    @property
    def order(self) -> tuple[int, int]:
        return self.call, PLACES.index(self.place)


@dataclass(frozen=True, slots=True)
class Shot:
    point: Point
    target: str


def plan(count: int, tasks: int, seed: int) -> list[list[Shot]]:
    """Deal ``count`` kills to the tasks, in the order in which a run comes by them.

    Every step boundary is among the first, then each place in turn at steps left to chance.
    """
    chance = random.Random(seed)
    dealt: list[list[Point]] = [[] for _ in range(tasks)]
    for point in _points(chance):
        room = [points for points in dealt if _fits(points, point)]
        if room:
            min(room, key=len).append(point)
        if sum(map(len, dealt)) == count:
            break
    targets = _targets(chance)
    in_order = [sorted(points, key=lambda point: point.order) for points in dealt]
    return [[Shot(point, next(targets)) for point in points] for points in in_order]


def _fits(points: Sequence[Point], point: Point) -> bool:
    """Tell whether a task has room for a point beside those that it has."""
    mates = [other.place for other in points if other.call == point.call]
    if point.place in mates:
        return False
    return not mates or not any(place.is_alone for place in (*mates, point.place))


def _points(chance: random.Random) -> Iterator[Point]:
    yield from (Point(step, BOUNDARY) for step in STEPS)
    while True:
        for place in PLACES:
            if place in START:
                yield Point(0, place)
            elif place in END:
                yield Point(script.CALLS + 1, place)
            else:
                yield Point(chance.choice(place.steps), place)


def _targets(chance: random.Random) -> Iterator[str]:
    while True:
        batch = [target for target, share in TARGETS.items() for _ in range(share)]
        chance.shuffle(batch)
        yield from batch
