"""Tasks that all do the same small work while something around them breaks, and their judgement."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from accounts.models import User
from asynccoder.tests.processes import Process
from billing.models import CreditHold, LedgerEntry
from campaigns.money import answer_of
from campaigns.races import books_faults, make_user
from campaigns.stage import Stage
from tasks import lifecycle
from tasks.lease import hold_reference
from tasks.lifecycle import TaskRequest
from tasks.models import TERMINAL, Step, Task, WorkerHeartbeat
from tasks.tests.world import World, bash, build_world, finish

WORKERS, SLOTS = 2, 2
LINES = 2
SCRIPT = [bash(f"echo line {n} >> notes.txt; sleep 0.{n}") for n in range(LINES)] + finish()
DIFF = [f"+line {n}" for n in range(LINES)]
MARK = re.compile(r"numbered task (\d+)\.")
PATIENCE_SECONDS = 600.0
POLL_SECONDS = 0.1


class Model:
    """The model of all tasks. While it is held, whoever asks it waits."""

    def __init__(self) -> None:
        self.waiting = 0
        self.others: dict[int, list[dict[str, Any]]] = {}
        """The turns of tasks that are asked for something else, by number."""
        self._lock = threading.Lock()
        self._may_answer = threading.Event()
        self._may_answer.set()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.waiting += 1
        self._may_answer.wait(PATIENCE_SECONDS)
        with self._lock:
            self.waiting -= 1
        script = self.others.get(number_of(str(body["messages"])), SCRIPT)
        turn = sum(1 for message in body["messages"] if message["role"] == "assistant")
        return script[min(turn, len(script) - 1)]

    @contextmanager
    def held(self) -> Iterator[None]:
        self._may_answer.clear()
        try:
            yield
        finally:
            self._may_answer.set()


@dataclass
class Load:
    """Numbered tasks and the world that they run in."""

    world: World
    model: Model
    count: int = 0
    """How many tasks were asked for; the next one has this number."""
    accepted: set[int] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    """What the API said to those who asked."""

    @property
    def owner(self) -> User:
        return self.world.owner

    def start_workers(self, times: dict[str, str]) -> list[Process]:
        """Start WORKERS workers, with these settings, and wait until they serve."""
        own = {"LOG_LEVEL": "INFO", "MODEL_MAX_RETRIES": "0", "WORKER_SLOTS": str(SLOTS)}
        environment = own | self.world.environment | times
        found = [self.world.start_worker(**environment) for _ in range(WORKERS)]
        wait(lambda: WorkerHeartbeat.objects.count() == WORKERS, "the workers serve")
        return found

    def next_prompt(self) -> str:
        number = self.count
        self.count += 1
        return f"Write the lines: numbered task {number}."

    def create(self, count: int = 1, *, owner: User | None = None, **values: Any) -> list[Task]:
        """Create so many tasks of the world's owner, or of another who may use the repository."""
        found = []
        for _ in range(count):
            request: dict[str, Any] = {
                "type": "debug", "prompt": self.next_prompt(), "model": self.world.model,
                "repository": self.world.repository,
            }  # fmt: skip
            task, _ = lifecycle.create_task(
                owner=owner or self.owner, request=TaskRequest(**(request | values))
            )
            self.accepted.add(number_of(task.prompt))
            found.append(task)
        return found

    def post(self, url: str, token: str) -> str:
        """Ask a web server for one more task; return its answer, as ``201`` or ``503 CODE``."""
        body = {
            "type": "debug",
            "prompt": self.next_prompt(),
            "model_id": str(self.world.model.pk),
            "repository_id": str(self.world.repository.pk),
        }
        answer = answer_of(f"{url}/api/v1/tasks", token, body)
        if answer == "201":
            self.accepted.add(number_of(body["prompt"]))
        self.answers[answer] += 1
        return answer

    def open(self) -> int:
        return int(Task.objects.exclude(status__in=TERMINAL).count())

    def asked(self) -> Counter[int]:
        """Return how often the model was asked for each task."""
        return Counter(number_of(str(body["messages"])) for body in self.world.server.bodies())

    def losses(
        self, *, is_disturbed: bool = False, may_fail: Mapping[int, Collection[str]] = {}
    ) -> list[str]:
        """Judge every task and the books of everybody who had one.

        ``may_fail`` are the codes with which a task may fail, by its number.
        """
        asked, numbers = self.asked(), Counter[int]()
        found = []
        for task in Task.objects.order_by("created_at"):
            number = number_of(task.prompt)
            numbers[number] += 1
            told = losses_of(
                task, asked=asked[number], is_disturbed=is_disturbed,
                may_fail=may_fail.get(number, ()),
            )  # fmt: skip
            found += [f"task {number}: {loss}" for loss in told]
        # One that was refused for a lost connection may be there all the same.
        found += [
            f"task {number} was accepted and is not there"
            for number in self.accepted - numbers.keys()
        ]
        found += [f"task {number} is there twice" for number, times in numbers.items() if times > 1]
        for user in User.objects.filter(tasks__isnull=False).distinct():
            found += books_faults(user)
            if user.running_tasks:
                found.append(f"{user.running_tasks} places of {user} are still taken")
        return found


def number_of(text: str) -> int:
    found = MARK.search(text)
    return int(found[1]) if found else -1


@contextmanager
def open_load(stage: Stage) -> Iterator[Load]:
    """Make an owner with credits, a repository and the model that all tasks have."""
    model = Model()
    owner = make_user("alice", credits=1_000_000)
    with build_world(owner, model, stage.worker, stage.folder / "upstream") as world:
        yield Load(world, model)


def wait(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition that asks the database. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


def losses_of(
    task: Task, *, asked: int, is_disturbed: bool, may_fail: Collection[str] = ()
) -> list[str]:
    """Return what is wrong with a task at the end.

    ``asked`` is how often the model server heard of it. A disturbed one may have been taken up
    again, and calls of it may be marked lost; any other was claimed once. One that has failed
    with a code of ``may_fail`` need not have done its work, and one that might have failed so may
    have done it otherwise: its model was told of a full disk.
    """
    has_failed = task.status == "failed" and task.error_code in may_fail
    steps = Counter(task.steps.values_list("kind", "state"))
    settled = steps[Step.Kind.MODEL_CALL, Step.State.DONE]
    lost = steps[Step.Kind.MODEL_CALL, Step.State.LOST] if is_disturbed else 0
    charges = LedgerEntry.objects.filter(
        kind="charge", reference__startswith=f"{hold_reference(task.pk)}:"
    )
    paid = [-change for change in charges.values_list("held_change", flat=True)]
    hold = CreditHold.objects.filter(reference=hold_reference(task.pk), is_open=True)
    events = list(task.log.order_by("sequence").values_list("sequence", "kind"))
    kinds = Counter(kind for _, kind in events)
    ends = sum(kinds[f"task.{status}"] for status in TERMINAL)
    begun = kinds["task.started"] + kinds["task.resumed"]
    added = _added(task)
    unsettled = sum(count for (_, state), count in steps.items() if state != Step.State.DONE)
    holds = {
        f"it ended {task.status} {task.error_code}".strip(): has_failed
        or task.status == "completed",
        f"its lines are {added}": bool(may_fail) or added == DIFF,
        f"{settled} calls were settled": bool(may_fail) or settled == len(SCRIPT),
        f"{asked} calls were asked for, {lost} are lost": settled <= asked <= settled + lost,
        f"{len(paid)} calls were charged": len(paid) == settled,
        "its charges are not what it says": sum(paid) == task.charged_microcredits,
        "its hold is still open": not hold.exists(),
        "its events have a gap": [n for n, _ in events] == list(range(1, len(events) + 1)),
        f"it has {ends} terminal events": ends == 1,
        f"it was started {kinds['task.started']} times": kinds["task.started"] == 1,
        f"it was taken up {begun} times": begun == task.generation if is_disturbed else begun == 1,
        f"{unsettled} steps were lost": is_disturbed or has_failed or not unsettled,
    }
    return [words for words, is_good in holds.items() if not is_good]


def _added(task: Task) -> Sequence[str]:
    if not hasattr(task, "result"):
        return []
    return [line for line in task.result.diff.splitlines() if line.startswith("+line")]
