"""What tasks and workers are doing, in figures: for ``/metrics`` and the detailed health.

Gauges are read from the tables of the present, whose size is that of the queue. Counters are sums
over rows that no longer change, kept up to a row in the shared cache, and what came after it: no
question reads the whole history, and every process tells the same. They begin an hour before they
are first asked for, and again when Redis was flushed, as counters of Prometheus may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, TypedDict

import redis
from django.core.cache import cache
from django.db.models import (
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    Max,
    Min,
    Model,
    Q,
    QuerySet,
    Sum,
)
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from billing.ledger import MICROCREDITS
from tasks.heartbeat import ALIVE_SECONDS
from tasks.models import Status, Step, Task, TaskAnalytics, WorkerHeartbeat

STATE = "metrics:tasks"
FINAL_AFTER = timedelta(hours=1)
"""No step lasts as long: a row of this age changes no more."""
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TOKENS = ("input", "cached", "output")
Sums = dict[str, float]


class Kept(TypedDict):
    """Sums over the rows up to the two ids."""

    step: int
    finished: int
    sums: Sums


_kept: Kept | None = None
"""What this process knew last, for the time that the cache is away."""


def figures() -> dict[str, dict[str, float]]:
    """Return the queue (tasks; seconds) and the workers (processes; runs at once)."""
    now = timezone.now()
    is_due = Q(run_after=None) | Q(run_after__lte=now)
    queue = (
        Task.objects.claimable()
        .order_by()
        .aggregate(
            waiting=Count("pk", filter=is_due),
            parked=Count("pk", filter=~is_due),
            since=Min(Coalesce("run_after", "created_at"), filter=is_due),
        )
    )
    alive = WorkerHeartbeat.objects.filter(seen_at__gte=Now() - timedelta(seconds=ALIVE_SECONDS))
    workers = alive.order_by().aggregate(
        alive=Count("pk"), slots=Coalesce(Sum("slots"), 0), busy=Coalesce(Sum("runs"), 0)
    )
    since = queue.pop("since")
    queue["oldest_seconds"] = max(0.0, round((now - since).total_seconds(), 1)) if since else 0.0
    running = Task.objects.filter(status=Status.RUNNING).exclude(lease_owner="")
    queue["running"] = running.order_by().count()
    return {"queue": queue, "workers": workers}


def collect() -> list[Metric]:
    """Return the platform's values of the database. About a dozen bounded queries."""
    return [*_gauges(figures()), *_counters(_totals())]


def _gauges(found: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    queue, workers = found["queue"], found["workers"]
    for name, says, value in (
        ("tasks_waiting", "Tasks that a worker may claim now.", queue["waiting"]),
        ("tasks_waiting_oldest_seconds", "Age of the oldest of them.", queue["oldest_seconds"]),
        ("tasks_parked", "Tasks that wait for a busy provider.", queue["parked"]),
        ("tasks_running", "Tasks that a worker holds.", queue["running"]),
        ("workers_alive", f"Workers seen in the last {ALIVE_SECONDS} s.", workers["alive"]),
        ("worker_slots", "Runs that they may do at once.", workers["slots"]),
        ("worker_slots_busy", "Runs that they do.", workers["busy"]),
    ):
        yield GaugeMetricFamily(f"asynccoder_{name}", says, value=value)


def _counters(sums: Sums) -> Iterator[Metric]:
    finished = CounterMetricFamily(
        "asynccoder_tasks_finished", "Tasks by type and outcome.", labels=["type", "outcome"]
    )
    for key in sorted(name for name in sums if name.startswith("finished ")):
        finished.add_metric(key.split()[1:], sums[key])
    seconds = HistogramMetricFamily(
        "asynccoder_step_seconds",
        "Time of steps that are done: model calls, tool calls, the platform's own.",
        labels=["kind"],
    )
    for kind in Step.Kind.values:
        ends = [*map(str, BUCKETS), "+Inf"]
        buckets = [(end, sums.get(f"step {kind} {end}", 0)) for end in ends]
        seconds.add_metric([kind], buckets, sums.get(f"step {kind} seconds", 0))
    tokens = CounterMetricFamily(
        "asynccoder_tokens", "Tokens of model calls; input does not hold cached.", labels=["kind"]
    )
    for kind in TOKENS:
        tokens.add_metric([kind], sums.get(f"tokens {kind}", 0))
    charged = CounterMetricFamily(
        "asynccoder_credits_charged",
        "Credits that steps were charged.",
        value=sums.get("microcredits", 0) / MICROCREDITS,
    )
    yield from (finished, seconds, tokens, charged)


def _totals() -> Sums:
    """Return the sums over everything since the beginning; move the row up to which they are kept."""
    global _kept  # The cache may be away for a while.
    step, finished = _last_final(Step), _last_final(TaskAnalytics)
    # Of another database, or of one that was brought back from a copy.
    newest = _newest(Step)
    kept = max(
        [known for known in (_from_cache(), _kept) if known and known["step"] <= newest],
        key=lambda known: known["step"],
        default=Kept(step=step, finished=finished, sums={}),
    )
    if step > kept["step"] or finished > kept["finished"]:
        between = _sums(Q(pk__gt=kept["step"], pk__lte=step), Q(pk__gt=kept["finished"], pk__lte=finished))  # fmt: skip
        kept = Kept(step=step, finished=finished, sums=_added(kept["sums"], between))
    _kept = kept
    _to_cache(kept)
    return _added(kept["sums"], _sums(Q(pk__gt=kept["step"]), Q(pk__gt=kept["finished"])))


def _sums(steps: Q, finished: Q) -> Sums:
    took = ExpressionWrapper(F("finished_at") - F("started_at"), DurationField())
    done = Step.objects.filter(steps, state=Step.State.DONE, finished_at__gte=F("started_at"))
    measured: dict[str, Any] = {
        f"under_{number}": Count("pk", filter=Q(took__lte=timedelta(seconds=end)))
        for number, end in enumerate(BUCKETS)
    }
    rows: Any = done.order_by().annotate(took=took).values("kind").annotate(
        count=Count("pk"), seconds=Sum("took"), microcredits=Sum("cost_microcredits"),
        **{kind: Sum(f"{kind}_tokens") for kind in TOKENS}, **measured,
    )  # fmt: skip
    sums: Sums = {}
    for row in rows:
        of_kind = {str(end): row[f"under_{number}"] for number, end in enumerate(BUCKETS)}
        of_kind |= {"+Inf": row["count"], "seconds": row["seconds"].total_seconds()}
        own = {f"step {row['kind']} {name}": value for name, value in of_kind.items()}
        own |= {f"tokens {kind}": row[kind] for kind in TOKENS}
        sums = _added(sums, own | {"microcredits": row["microcredits"]})
    ended = TaskAnalytics.objects.filter(finished).order_by()
    counted = ended.values_list("task__type", "task__status").annotate(count=Count("pk"))
    for kind, status, count in counted:
        sums[f"finished {kind} {status}"] = count
    return sums


def _added(first: Sums, second: Sums) -> Sums:
    return {name: first.get(name, 0) + second.get(name, 0) for name in first.keys() | second.keys()}


def _last_final(model: type[Model]) -> int:
    """Return the id of the newest row that is old enough to be final; ids only grow.

    The index is walked from its end, over the rows of the last hour.
    """
    rows: QuerySet[Model] = model._default_manager.order_by("-pk")
    return rows.filter(created_at__lt=Now() - FINAL_AFTER).values_list("pk", flat=True).first() or 0


def _newest(model: type[Model]) -> int:
    return model._default_manager.aggregate(newest=Max("pk"))["newest"] or 0


def _from_cache() -> Kept | None:
    try:
        found: Kept | None = cache.get(STATE)
    except (redis.RedisError, OSError):
        return None
    return found


def _to_cache(kept: Kept) -> None:
    try:
        cache.set(STATE, kept, None)
    except (redis.RedisError, OSError):
        return
