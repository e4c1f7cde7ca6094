"""A model provider that fails in every way at every place, and models that mean harm.

Every case is one task of its own that a real worker runs against a server on loopback. What a
case must come to is decided here; the campaign looks at what came, and at who paid.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from asynccoder.tests.processes import wait_for
from billing.models import CreditHold, LedgerEntry
from campaigns.races import books_faults, make_user
from campaigns.report import Report
from campaigns.stage import Stage
from tasks.models import Step, Task, TaskType
from tasks.tests.world import World, bash, build_world, finish

KINDS = ("openai", "anthropic")
PLACES = {"first call": 0, "in the middle": 1, "at the finish": 2}
CITED = [{"path": "app.py", "line": 1}]
WORK = [bash("cat app.py"), *finish(answer="It prints hello (app.py:1).", citations=CITED)]
FAR = timedelta(seconds=5)
POLL_SECONDS = 0.3
CUTS_PER_TASK, BYTES = 8, 11
WHOLE = 50
"""From so many cuts on, every fault is played at every place and in both wire formats."""
COMPLETED = "completed"


@dataclass(frozen=True)
class Case:
    """One task: what its model answers, with which faults first, and how it must end.

    ``faults`` are played one a request, by the number of turns that were answered before.
    ``lost`` is how many calls end without a settled answer; None where that is left to the case.
    """

    name: str
    place: str
    ending: str
    faults: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=lambda: list(WORK))
    lost: int | None = 0
    cap: int | None = None


BUSY: dict[str, dict[str, Any]] = {
    "429 with Retry-After": {"status": 429, "retry_after": 1},
    "429 without": {"status": 429},
    "500": {"status": 500},
    "529": {"status": 529},
    "no answer in time": {"hang": 20},
    "reset before the answer": {"reset_after": 0},
    "overload half-way": {"error_event": "overloaded"},
}
BROKEN: dict[str, dict[str, Any]] = {
    "reset in the answer": {"reset_after": 500},
    "a chunk is no JSON": {"corrupt": True},
    "no finish reason": {"no_finish": True},
}
FINAL: dict[str, tuple[dict[str, Any], str]] = {
    "wrong key": ({"status": 401}, "model_key_refused"),
    "no quota": ({"status": 402}, "model_key_refused"),
    "no such model": ({"status": 404}, "model_key_refused"),
    "bad request": ({"status": 400, "message": "no such parameter"}, "model_failed"),
    "context overflow": (
        {"status": 400, "message": "prompt is too long: 9 tokens > 8 maximum"},
        "conversation_too_long",
    ),
}
ODD: dict[str, dict[str, Any]] = {
    "malformed tool call": {"tool_calls": [{"name": "bash", "arguments": '{"command": "ls'}]},
    "unknown tool": {"tool_calls": [{"name": "launch", "arguments": {}}]},
    "no tool call": {"text": "I only talk."},
}


def cases(*, cuts: int, is_whole: bool) -> list[Case]:
    """Return every fault at every place, or else at one each, and the rest.

    ``cuts`` is at how many bytes of an answer the stream is cut.
    """
    everywhere = [faults_at(place, at) for place, at in PLACES.items()]
    if is_whole:
        found = [case for here in everywhere for case in here]
    else:
        found = [everywhere[number % len(PLACES)][number] for number in range(len(everywhere[0]))]
    return [*found, *cut_cases(cuts), *hostile_cases()]


def faults_at(place: str, at: int) -> list[Case]:
    """Return every fault, come when so many answers were given."""
    refusal = {"text": "I will not.", "stop": "refusal"}
    return [
        *(Case(name, place, COMPLETED, {at: [fault]}, lost=1) for name, fault in BUSY.items()),
        *(Case(name, place, COMPLETED, {at: [fault]}) for name, fault in BROKEN.items()),
        *(
            Case(name, place, code, {at: [fault] * 9}, lost=None)
            for name, (fault, code) in FINAL.items()
        ),
        *(
            Case(name, place, COMPLETED, turns=[*WORK[:at], turn, *WORK[at:]])
            for name, turn in ODD.items()
        ),
        Case("refusal", place, "model_refused", turns=[*WORK[:at], refusal]),
    ]


def cut_cases(cuts: int) -> list[Case]:
    """Cut the stream at so many bytes, two cuts a turn: the third unusable reply would end it."""
    found, offsets = [], [BYTES * number for number in range(cuts)]
    for begin in range(0, cuts, CUTS_PER_TASK):
        some = offsets[begin : begin + CUTS_PER_TASK]
        pairs = {number // 2: some[number : number + 2] for number in range(0, len(some), 2)}
        faults = {
            turn: [{"truncate_after": offset} for offset in pair] for turn, pair in pairs.items()
        }
        looks = [bash(f"cat app.py # {number}") for number in range(len(pairs))]
        name = f"stream cut after {some[0]} to {some[-1]} bytes"
        found.append(
            Case(name, f"{len(some)} places", COMPLETED, faults, [*looks, *WORK], lost=None)
        )
    return found


def hostile_cases() -> list[Case]:
    endless = [bash(f"echo {number}") for number in range(200)]
    boast = bash("true") | {"usage": {"input": 10**12, "output": 10**12}}
    silent = [{"text": "Words, words."}]
    return [
        Case("never ends", "its cap", "cap_reached", turns=endless, cap=3_000_000),
        Case("never ends", "its calls", "calls_used_up", turns=endless),
        Case("claims a million million tokens", "first call", COMPLETED, turns=[boast, *WORK]),
        Case("never calls a tool", "every call", "malformed_replies", turns=silent),
    ]


class Provider:
    """Plays the cases: which one a request belongs to stands in its prompt."""

    def __init__(self, played: list[Case]) -> None:
        self.cases = played
        self.asked: Counter[int] = Counter()
        self._lock = Lock()
        self._used: Counter[tuple[int, int]] = Counter()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        named = re.search(r"Case (\d+)\.", json.dumps(body["messages"]))
        number = int(named[1]) if named else 0
        case = self.cases[number]
        answered = sum(1 for message in body["messages"] if message["role"] == "assistant")
        with self._lock:
            self.asked[number] += 1
            used = self._used[number, answered]
            self._used[number, answered] += 1
        faults = case.faults.get(answered, [])
        last = case.turns[-1]
        turn = case.turns[answered] if answered < len(case.turns) else last
        return {**turn, "fault": faults[used]} if used < len(faults) else turn


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Play every case with ``count`` cuts of the stream; the seed decides nothing here."""
    report = Report(
        "A provider that fails, and models that mean harm",
        ["fault", "where", "how it ended", "calls asked", "settled", "lost", "credits charged"],
    )
    is_whole = count >= WHOLE
    for kind in KINDS if is_whole else KINDS[:1]:
        play(stage, report, kind, cases(cuts=count, is_whole=is_whole))
    report.facts |= {"database": "PostgreSQL" if stage.is_postgres else "SQLite"}
    return report


def play(stage: Stage, report: Report, kind: str, played: list[Case]) -> None:
    provider = Provider(played)
    owner = make_user(f"alice-{kind}")
    folder = stage.folder / f"repository-{kind}"
    with build_world(owner, provider, stage.worker, folder, kind=kind) as world:
        tasks = [create(world, number, case) for number, case in enumerate(played)]
        worker = world.worker(MODEL_TIMEOUT_SECONDS="2", WORKER_SLOTS="4", LEASE_SECONDS="20")
        wait_for(
            lambda: all_ended(stage, tasks), seconds=60 + 10 * len(tasks), what="every task ends"
        )
        report.expect(worker.popen.poll() is None, "the worker has ended")
        # It knows this provider's address alone, and would take up the other one's tasks.
        worker.end()
    for number, (case, task) in enumerate(zip(played, tasks, strict=True)):
        task.refresh_from_db()
        row, faults = outcome(case, task, asked=provider.asked[number])
        report.add(*row)
        report.losses += faults
    report.losses += books_faults(owner)


def create(world: World, number: int, case: Case) -> Task:
    return world.create(prompt=f"Case {number}.", type=TaskType.ASK, cap_microcredits=case.cap)


def all_ended(stage: Stage, tasks: list[Task]) -> bool:
    """Tell whether all have ended; time passes for those that are parked for long."""
    Task.objects.filter(run_after__gt=timezone.now() + FAR).update(run_after=timezone.now())
    keys = [task.pk for task in tasks]
    time.sleep(POLL_SECONDS)
    left = Task.objects.filter(pk__in=keys).open().count()
    stage.progress(len(tasks) - left, len(tasks), "cases")
    return left == 0


def outcome(case: Case, task: Task, *, asked: int) -> tuple[tuple[object, ...], list[str]]:
    """Return the case's row, and what is not as it was decided."""
    calls = Counter(task.steps.filter(kind=Step.Kind.MODEL_CALL).values_list("state", flat=True))
    settled, lost = calls[Step.State.DONE], calls[Step.State.LOST]
    ending = task.error_code or task.status
    where = f"{task.model.provider}: {case.place}"
    row = (case.name, where, ending, asked, settled, lost, task.charged_microcredits / 1_000_000)
    found = money_faults(task)
    if ending != case.ending:
        found.append(f"ended as {ending} ({task.error_message}), not as {case.ending}")
    if asked != settled + lost:
        found.append(f"the provider was asked {asked} times for {settled} + {lost} calls")
    if case.lost is not None and lost != case.lost:
        found.append(f"{lost} calls are lost, not {case.lost}")
    return row, [f"{case.name}, {where}: {fault}" for fault in found]


def money_faults(task: Task) -> list[str]:
    """Return what was charged without a settled call, beyond the cap, or is still held."""
    done = task.steps.filter(kind=Step.Kind.MODEL_CALL, state=Step.State.DONE)
    costs = done.aggregate(sum=Sum("cost_microcredits"))["sum"] or 0
    entries = LedgerEntry.objects.filter(kind="charge", reference__startswith=f"task:{task.pk}:")
    charged = -(entries.aggregate(sum=Sum("held_change"))["sum"] or 0)
    found = []
    if not charged == costs == task.charged_microcredits:
        found.append(f"{charged} charged, {costs} settled, {task.charged_microcredits} shown")
    if charged > task.cap_microcredits:
        found.append(f"{charged} is above the cap of {task.cap_microcredits}")
    if entries.count() > done.count():
        found.append(f"{entries.count()} charges for {done.count()} calls")
    if CreditHold.objects.filter(reference=f"task:{task.pk}", is_open=True).exists():
        found.append("its hold is still open")
    return found
