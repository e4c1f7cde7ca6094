"""What does it cost to tell many who look at one task what happens there?

Ours is daphne with the whole platform: sockets and streams that have signed in, events that are rows
in the database, read once and handed to all. The floors pass on what Redis publishes: a bare
``websockets`` server, and a raw ASGI application on daphne. ``burst`` is many events at once until every
client has all, ``paced`` is how late each one is; both are timed from the commit of what was written,
the floors' from the moment before it is published. A client that has not seen every event once and in
order ends the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from asynccoder.tests.processes import ROOT, Process, answers, free_port, wait_for
from benchmarks import accounting
from benchmarks.report import Series, interleave, judge
from campaigns.stage import Stage, open_stage

FILL = "x" * 100
# The clients answer no pings.
DAPHNE = ["-m", "daphne", "-v", "0", "--ping-timeout", "600", "--bind", "127.0.0.1", "--port"]
SETTINGS = {
    "LOG_LEVEL": "WARNING",
    "SOCKETS_PER_USER": "1000",
    "SOCKETS_UNKNOWN": "1000",
    "STREAMS_PER_USER": "1000",
    "RATE_PLAN_FREE": "1000000/1h",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One question: so many clients, so many events, and seconds between them (0: at once)."""

    name: str
    clients: int
    events: int
    gap: float
    goal: float
    """The most that ours may take of what the floor takes."""
    share: float = 0.5
    """Which of the values counts: 0.5 the median, 0.99 all but the latest."""


BURST = 1 / 0.8
SOCKETS = [
    Shape("burst to 100 sockets", 100, 400, 0, BURST),
    Shape("burst to 500 sockets", 500, 100, 0, BURST),
    Shape("paced to 100 sockets, p99", 100, 60, 1 / 20, 2, 0.99),
]
STREAMS = [
    Shape("burst to 1 stream", 1, 2_000, 0, 1 / 0.3),
    Shape("paced to 1 stream", 1, 100, 1 / 20, 2),
    Shape("paced to 50 streams", 50, 60, 1 / 20, 2),
]


def run(*, quick: bool, rounds: int) -> bool:
    with open_stage(
        database=os.environ.get("TEST_DATABASE_URL", ""),
        redis_url=os.environ.get("TEST_REDIS_URL", ""),
        environment=SETTINGS,
    ) as stage:
        bench = Bench(stage)
        bench.start()
        met = [
            bench.compare(_small(shape) if quick else shape, kind, rounds)
            for kind, shapes in (("socket", SOCKETS), ("stream", STREAMS))
            for shape in shapes
        ]
    return all(met)


def _small(shape: Shape) -> Shape:
    clients, events = max(shape.clients // 20, 1), max(shape.events // 10, 5)
    return Shape(shape.name, clients, events, shape.gap and 0.01, shape.goal, shape.share)


@dataclass
class Bench:
    """The servers, the account that looks, and one publisher for each kind."""

    stage: Stage
    servers: dict[str, tuple[Process, str]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def start(self) -> None:
        from accounts import keys
        from accounts.models import User
        from tasks.tests.make import make_model

        self.owner = User.objects.create_user(username="alice", email="alice@example.com")
        self.key = keys.create(user=self.owner, name="benchmark")[1]
        self.model = make_model(provider="openai", name="never-asked", display_name="Never asked")
        self.channel = f"{self.stage.environment['REDIS_PREFIX']}:benchmark"
        self.redis = redis.Redis.from_url(self.stage.environment["REDIS_URL"])
        ours, bare, raw = free_port(), free_port(), free_port()
        channel = {"BENCH_CHANNEL": self.channel}
        daphne = self._serve("ours", ours, *DAPHNE, str(ours), "asynccoder.asgi:application")
        self.servers["ours socket"] = self.servers["ours stream"] = daphne
        self.servers["floor socket"] = self._serve(
            "websockets", bare, "-m", "benchmarks.live_server", str(bare), **channel
        )
        self.servers["floor stream"] = self._serve(
            "raw ASGI", raw, *DAPHNE, str(raw), "benchmarks.live_server:stream", **channel
        )

    def _serve(
        self, name: str, port: int, *arguments: str, **environment: str
    ) -> tuple[Process, str]:
        process = self.stage.start(*arguments, **environment)
        place = f"127.0.0.1:{port}"
        asked = f"http://{place}/api/health/live"
        if name == "raw ASGI":
            # It would answer for ever.
            wait_for(lambda: _listens(port), seconds=60, what=f"{name} listens")
        else:
            wait_for(lambda: answers(asked), seconds=60, what=f"{name} answers")
        return process, place

    def compare(self, shape: Shape, kind: str, rounds: int) -> bool:
        """Let ours and the floor take turns; print both and the ratio."""
        against = "bare websockets" if kind == "socket" else "raw ASGI"
        measures = {
            f"ours, {shape.name}": lambda: self.measure(shape, f"ours {kind}"),
            f"{against}, {shape.name}": lambda: self.measure(shape, f"floor {kind}"),
        }
        self.cpu = {"ours": [], "floor": []}
        found = interleave(measures, bench="live", rounds=rounds)
        ours, floor = found.values()
        ours.cpu_ms, floor.cpu_ms = self.cpu["ours"][1:], self.cpu["floor"][1:]
        for series in (ours, floor):
            series.print()
        figures = [_figures(series, shape.share) for series in (ours, floor)]
        return judge(f"live, {shape.name}", *figures, goal=shape.goal, against=against)

    def measure(self, shape: Shape, who: str) -> list[float]:
        """Return how late each event was, or for a burst how long it took, in ms."""
        process, place = self.servers[who]
        url, publish = self._publisher(who, place, shape.events)
        with _clients(url, shape) as hear:
            used = accounting.cpu_ms(accounting.below(process.pid))
            told = publish(shape.gap)
            came = hear()
        used = accounting.cpu_ms(accounting.below(process.pid)) - used
        self.cpu[who.split()[0]].append(used)
        missing = sum(shape.events - len(times) for times in came)
        if missing:
            raise SystemExit(f"{who}, {shape.name}: {missing} events were lost")
        if not shape.gap:
            return [(max(times[-1] for times in came) - told[0]) * 1000]
        return [(at - then) * 1000 for times in came for at, then in zip(times, told, strict=True)]

    def _publisher(
        self, who: str, place: str, events: int
    ) -> tuple[str, Callable[[float], list[float]]]:
        """Return where to listen, and what tells the events and returns when it did."""
        if who.startswith("ours"):
            from tasks.models import Status
            from tasks.tests.make import make_task

            task = make_task(owner=self.owner, model=self.model, status=Status.RUNNING)
            path = f"/api/ws/task/{task.pk}?token={self.key}"
            url = f"ws://{place}{path}"
            if who.endswith("stream"):
                url = f"http://{place}/api/v1/tasks/{task.pk}/stream#{self.key}"
            return url, lambda gap: self._tell_ours(task.pk, events, gap)
        scheme = "ws" if who.endswith("socket") else "http"
        return f"{scheme}://{place}/", lambda gap: self._tell_floor(events, gap)

    def _tell_ours(self, task_id: Any, events: int, gap: float) -> list[float]:
        from django.db import transaction

        from tasks.events import Event, append

        told: list[float] = []
        # Events of a burst share a transaction, so that it is not their writing that is measured.
        for numbers in ([number] for number in _paced(events, gap)) if gap else [range(events)]:
            with transaction.atomic():
                # Before the events' own: they ring after the commit.
                transaction.on_commit(lambda: told.append(time.monotonic()))
                for number in numbers:
                    append(task_id, Event("log.written", _mark(number)))
        return told

    def _tell_floor(self, events: int, gap: float) -> list[float]:
        told: list[float] = []
        for numbers in ([number] for number in _paced(events, gap)) if gap else [range(events)]:
            told.append(time.monotonic())
            with self.redis.pipeline(transaction=False) as pipe:
                for number in numbers:
                    pipe.publish(self.channel, _wire(number))
                pipe.execute()
        return told


def _figures(series: Series, share: float) -> list[float]:
    """Return the figure of each round that counts."""
    return [
        sorted(values)[min(int(share * len(values)), len(values) - 1)] for values in series.rounds
    ]


def _mark(number: int) -> str:
    return f"@{number}@ {FILL}"


def _wire(number: int) -> str:
    """Return an event as long as one of ours."""
    return json.dumps({"type": "progress", "data": {"message": _mark(number), "rest": "x" * 220}})


def _paced(events: int, gap: float) -> Iterator[int]:
    began = time.monotonic()
    for number in range(events):
        time.sleep(max(0.0, began + number * gap - time.monotonic()))
        yield number


def _listens(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def _clients(url: str, shape: Shape) -> Iterator[Callable[[], list[list[float]]]]:
    """Connect the clients in a process of their own; give what waits for what they heard."""
    command = [sys.executable, "-m", "benchmarks.live_client", url]
    with subprocess.Popen(
        [*command, str(shape.clients), str(shape.events)],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    ) as clients:  # fmt: skip
        try:
            assert clients.stdout is not None
            lines = clients.stdout
            if lines.readline() != "ready\n":
                raise SystemExit(f"{shape.name}: the clients could not connect")
            yield lambda: json.loads(lines.readline())
        finally:
            clients.kill()
