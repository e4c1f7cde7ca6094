"""How long from the ring until somebody works on it, when nothing else happens?

``claimed`` is the platform's own way: a task is created here, and a real worker process has won
its lease. ``actor`` is the doorbell alone. The peer is a Celery worker with threads on the same
Redis, once alone and once with the same claim of the same task; the floor is a process that waits
by BRPOP. All times are CLOCK_MONOTONIC of one machine, and
every producer takes its time just before it rings. ``burst`` is many messages without a pause.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import redis

from asynccoder.tests.processes import launch, wait_for
from benchmarks.peers import peer
from benchmarks.report import Series, interleave, judge, judge_figure
from campaigns.stage import Stage, open_stage

HERE = Path(__file__).parent
ANSWER_SECONDS = 60
FLOOR_GOAL = 6.0
"""Without Celery: a bell is a script, a pop, two threads and an acknowledgement, not one pop."""
SETTINGS = {
    "OPENAI_API_KEY": "never-asked",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    "CANCEL_POLL_SECONDS": "0.1",
    "LOG_LEVEL": "WARNING",
}


class Ring(Protocol):
    def __call__(self, count: int) -> float:
        """Ring ``count`` times and return the time before the first."""


def run(*, quick: bool, rounds: int) -> bool:
    count, gap, burst = (4, 0.3, 200) if quick else (24, 1.5, 3_000)
    with open_stage(
        database=os.environ.get("TEST_DATABASE_URL", ""),
        redis_url=os.environ.get("TEST_REDIS_URL", ""),
        environment=SETTINGS,
    ) as stage:
        bench = Bench(stage)
        rings = bench.rings()
        idle = _interleave(
            "idle", rounds, rings, lambda ring: [bench.idle(ring, gap) for _ in range(count)]
        )
        # A burst of runs would measure how long the runs take.
        for case in ("claimed", "celery claimed"):
            rings.pop(case, None)
        bursts = _interleave("burst", rounds, rings, lambda ring: [bench.answer(ring, burst)])
    for series in (*idle.values(), *bursts.values()):
        series.print()
    return all([*_judge_idle(idle), *_judge_burst(bursts)])


def _interleave(
    name: str, rounds: int, rings: Mapping[str, Ring], measure: Callable[[Ring], list[float]]
) -> dict[str, Series]:
    measures = {case: lambda ring=ring: measure(ring) for case, ring in rings.items()}
    return interleave(measures, bench=f"doorbell {name}", rounds=rounds)


def _judge_idle(idle: dict[str, Series]) -> list[bool]:
    met = [
        judge_figure(f"doorbell {case}, p99", idle[case].p(0.99), goal=25)
        for case in ("claimed", "actor")
    ]
    pairs, goal = [("actor", "celery"), ("claimed", "celery claimed")], 1.0
    if "celery" not in idle:
        pairs, goal = [("actor", "brpop")], FLOOR_GOAL
    for case, against in pairs:
        ours, theirs = idle[case].medians(), idle[against].medians()
        name = f"doorbell {case}, p50"
        met.append(judge(name, ours, theirs, goal=goal, against=against))
    if "celery" in idle:
        # Said, not counted: what Celery has begun there holds no lease and is in no database.
        ours, theirs = idle["claimed"].medians(), idle["celery"].medians()
        judge("doorbell claimed, p50", ours, theirs, goal=goal, against="celery")
    return met


def _judge_burst(bursts: dict[str, Series]) -> list[bool]:
    if "celery" not in bursts:
        return []
    ours, theirs = bursts["actor"].medians(), bursts["celery"].medians()
    return [judge("doorbell burst", ours, theirs, goal=0.67, against="celery")]


class Bench:
    """The processes that listen, and how each of them is rung."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._url = stage.environment["REDIS_URL"]
        self._prefix = stage.environment["REDIS_PREFIX"]
        self._client = redis.Redis.from_url(self._url, socket_timeout=None)
        self._key = f"{self._prefix}:heard"

    def rings(self) -> dict[str, Ring]:
        """Start every listener and return what rings for it."""
        found: dict[str, Ring] = {"claimed": self._claimed(), "actor": self._actor()}
        self._listen("brpop")
        found["brpop"] = _ringing(lambda: self._client.lpush(f"{self._prefix}:floor", "1"))
        celery = peer("celery")
        if celery is not None:
            ring = self._celery(celery)
            found["celery"] = lambda count: ring("heard", count)
            found["celery claimed"] = Claims(lambda _: ring("claim", 1), is_left_running=False)
        return found

    def answer(self, ring: Ring, count: int) -> float:
        """Ring ``count`` times and return the milliseconds until the last ring is answered."""
        sent = ring(count)
        return (max(self._heard() for _ in range(count)) - sent) * 1000

    def idle(self, ring: Ring, gap: float) -> float:
        time.sleep(gap)
        taken = self.answer(ring, 1)
        if isinstance(ring, Claims):
            # At once: a run that fails at its model would be parked, and due again later.
            ring.end_last()
        return taken

    def _heard(self) -> float:
        found: Any = self._client.blpop([self._key], timeout=ANSWER_SECONDS)
        if found is None:
            raise SystemExit(f"nobody answered within {ANSWER_SECONDS} s")
        return float(found[1])

    def _listen(self, kind: str, **environment: str) -> None:
        self._stage.start("-m", "benchmarks.doorbell_listener", kind, self._key, **environment)

    def _claimed(self) -> Ring:
        self._listen("worker", SWEEP_SECONDS="3600")
        from tasks import actors
        from tasks.models import WorkerHeartbeat

        wait_for(WorkerHeartbeat.objects.exists, seconds=ANSWER_SECONDS, what="the worker serves")
        return Claims(lambda hint: _ringing(lambda: actors.ring(hint))(1), is_left_running=True)

    def _actor(self) -> Ring:
        from benchmarks.doorbell_listener import bell

        self._listen("actor")
        return _ringing(bell(self._url, self._prefix, self._key).send)

    def _celery(self, program: Path) -> Callable[[str, int], float]:
        """Start a Celery worker, and its producer in the same environment, which ends with us."""
        environment = self._stage.environment | {
            "BENCH_KEY": self._key,
            "BENCH_PREFIX": f"{self._prefix}:celery:",
            "BENCH_PACKAGES": os.pathsep.join([str(HERE.parent), sysconfig.get_path("purelib")]),
        }
        worker = [
            str(program), "-A", "doorbell_celery", "--workdir", str(HERE), "worker",
            "-P", "threads", "-c", "4", "--prefetch-multiplier", "1",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        logs = self._stage.folder / "logs"
        self._stage.processes.append(launch(worker, environment, logs / "celery.log"))
        producer = subprocess.Popen(
            [str(program.with_name("python")), str(HERE / "doorbell_celery.py")],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert producer.stdin is not None
        assert producer.stdout is not None
        orders, answers = producer.stdin, producer.stdout

        def ring(name: str, count: int) -> float:
            orders.write(f"{name} {count}\n")
            orders.flush()
            return float(answers.readline())

        return ring


def _ringing(send: Callable[[], object]) -> Ring:
    def ring(count: int) -> float:
        first = time.monotonic()
        for _ in range(count):
            send()
        return first

    return ring


class Claims:
    """Create one task and ring for it, as ``create_task`` does after its commit."""

    def __init__(self, ring: Callable[[str], float], *, is_left_running: bool) -> None:
        from accounts.models import User
        from tasks.tests.make import make_model

        self._ring = ring
        self._is_left_running = is_left_running
        self._task: Any = None
        self._owner, _ = User.objects.get_or_create(username="bench", email="bench@example.com")
        self._model = make_model(provider="openai", name="never-asked", display_name="Never asked")

    def __call__(self, count: int) -> float:
        from tasks import lifecycle

        assert count == 1
        request = lifecycle.TaskRequest(type="build", prompt="Be claimed.", model=self._model)
        self._task, _ = lifecycle.create_task(owner=self._owner, request=request, ring=False)
        return self._ring(str(self._task.pk))

    def end_last(self) -> None:
        """End the task that was claimed last, and wait until nothing of it is left."""
        from tasks import lifecycle

        if self._is_left_running:
            lifecycle.cancel_task(self._task, by=self._owner)

        def has_ended() -> bool:
            self._task.refresh_from_db()
            return bool(self._task.is_finished)

        wait_for(has_ended, seconds=ANSWER_SECONDS, what="the task ends")
