"""What ``/metrics`` and the detailed health tell of tasks, steps and workers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.utils import timezone
from prometheus_client.metrics_core import Metric

from accounts.models import User
from tasks import heartbeat, metrics
from tasks.models import Status, Step, Task, TaskAnalytics, TaskType, WorkerHeartbeat
from tasks.tests.make import make_step, make_task

pytestmark = [pytest.mark.services, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _from_the_beginning() -> None:
    metrics._kept = None
    cache.delete(metrics.STATE)


def told() -> dict[str, float]:
    """Return every sample by its name and labels; the age of the queue changes by itself."""
    found = {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for metric in metrics.collect()
        for sample in metric.samples
    }
    del found["asynccoder_tasks_waiting_oldest_seconds[]"]
    return found


def done(task: Task, *, seconds: float, kind: str = Step.Kind.MODEL_CALL, **values: Any) -> Step:
    now = timezone.now()
    ends = {"started_at": now - timedelta(seconds=seconds), "finished_at": now}
    return make_step(task, kind=kind, state=Step.State.DONE, **ends, **values)


def finish(task: Task, status: str) -> None:
    Task.objects.filter(pk=task.pk).update(status=status)
    TaskAnalytics.objects.create(task=task)


def grow_old() -> None:
    """Let all that happened be two hours ago."""
    long_ago = timezone.now() - timedelta(hours=2)
    Step.objects.update(created_at=long_ago)
    TaskAnalytics.objects.update(created_at=long_ago)


def test_the_queue_is_told_with_its_age(alice: User) -> None:
    now = timezone.now()
    old, _new, parked, running = (make_task(owner=alice) for _ in range(4))
    Task.objects.filter(pk=old.pk).update(created_at=now - timedelta(seconds=90))
    Task.objects.filter(pk=parked.pk).update(
        status=Status.RUNNING, run_after=now + timedelta(minutes=5)
    )
    Task.objects.filter(pk=running.pk).update(status=Status.RUNNING, lease_owner="one")
    heartbeat.beat(worker="one", slots=4, runs=1)
    with time_machine.travel(now, tick=False):
        found = metrics.figures()
    assert found == {
        "queue": {"waiting": 2, "parked": 1, "running": 1, "oldest_seconds": 90.0},
        "workers": {"alive": 1, "slots": 4, "busy": 1},
    }
    assert told()["asynccoder_tasks_waiting[]"] == 2


def test_an_idle_instance_tells_zeros() -> None:
    found = metrics.figures()
    assert {value for part in found.values() for value in part.values()} == {0}
    assert told()["asynccoder_credits_charged_total[]"] == 0


def test_a_worker_that_is_gone_is_not_counted(alice: User) -> None:
    heartbeat.beat(worker="one", slots=4, runs=1)
    WorkerHeartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=2))
    assert metrics.figures()["workers"] == {"alive": 0, "slots": 0, "busy": 0}


def test_steps_are_counted_with_time_tokens_and_credits(alice: User) -> None:
    task = make_task(owner=alice)
    usage: Any = {"input_tokens": 100, "cached_tokens": 20, "output_tokens": 7}
    done(task, seconds=2, cost_microcredits=1_500_000, **usage)
    done(task, seconds=700, cost_microcredits=500_000, **usage)
    done(task, seconds=0.05, kind=Step.Kind.TOOL_CALL)
    make_step(task, state=Step.State.STARTED)
    found = told()
    assert found["asynccoder_step_seconds_bucket['1.0', 'model_call']"] == 0
    assert found["asynccoder_step_seconds_bucket['2.5', 'model_call']"] == 1
    assert found["asynccoder_step_seconds_bucket['600.0', 'model_call']"] == 1
    assert found["asynccoder_step_seconds_count['model_call']"] == 2
    assert found["asynccoder_step_seconds_sum['model_call']"] == pytest.approx(702)
    assert found["asynccoder_step_seconds_bucket['0.1', 'tool_call']"] == 1
    assert found["asynccoder_tokens_total['input']"] == 200
    assert found["asynccoder_tokens_total['cached']"] == 40
    assert found["asynccoder_tokens_total['output']"] == 14
    assert found["asynccoder_credits_charged_total[]"] == 2


def test_finished_tasks_are_counted_by_type_and_outcome(alice: User) -> None:
    for status in (Status.COMPLETED, Status.COMPLETED, Status.FAILED):
        finish(make_task(owner=alice), status)
    finish(make_task(owner=alice, type=TaskType.ASK), Status.CANCELLED)
    found = {name: value for name, value in told().items() if "tasks_finished_total" in name}
    assert found == {
        "asynccoder_tasks_finished_total['completed', 'debug']": 2,
        "asynccoder_tasks_finished_total['debug', 'failed']": 1,
        "asynccoder_tasks_finished_total['ask', 'cancelled']": 1,
    }


@pytest.mark.parametrize("loses", ["nothing", "process", "cache"])
def test_what_has_grown_old_is_kept_and_not_read_again(alice: User, loses: str) -> None:
    task = make_task(owner=alice)
    done(task, seconds=2, input_tokens=10)
    finish(task, Status.COMPLETED)
    first = told()
    grow_old()
    assert told() == first
    if loses == "process":
        metrics._kept = None
    if loses == "cache":
        cache.delete(metrics.STATE)
    Step.objects.update(input_tokens=10**9)
    assert told() == first
    done(task, seconds=2, input_tokens=5)
    assert told()["asynccoder_tokens_total['input']"] == 15


def test_counters_begin_with_the_last_hour(alice: User) -> None:
    done(make_task(owner=alice), seconds=2, input_tokens=10)
    grow_old()
    assert told()["asynccoder_tokens_total['input']"] == 0


def test_another_database_does_not_stop_the_counters(alice: User) -> None:
    cache.set(metrics.STATE, metrics.Kept(step=10**9, finished=10**9, sums={"tokens input": 99}))
    done(make_task(owner=alice), seconds=2, input_tokens=10)
    assert told()["asynccoder_tokens_total['input']"] == 10


def test_a_cache_that_is_away_changes_nothing(alice: User, settings: Any, tmp_path: Any) -> None:
    settings.CACHES = {
        "default": settings.CACHES["default"] | {"LOCATION": f"unix://{tmp_path}/nowhere.sock"}
    }
    done(make_task(owner=alice), seconds=2, input_tokens=10)
    first = told()
    assert first["asynccoder_tokens_total['input']"] == 10
    grow_old()
    assert told() == first


def test_no_question_grows_with_the_history(
    alice: User, django_assert_max_num_queries: Any
) -> None:
    for _ in range(3):
        finish(make_task(owner=alice), Status.COMPLETED)
    with django_assert_max_num_queries(12):
        found: list[Metric] = metrics.collect()
    assert len({metric.name for metric in found}) == len(found)
