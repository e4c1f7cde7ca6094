"""Which workers are alive, and the one pass of the sweeper."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import User
from tasks import actors, heartbeat, lease
from tasks.heartbeat import NobodyWorks
from tasks.models import Task, WorkerHeartbeat
from tasks.tests.make import make_task
from tasks.tests.test_lease import expire

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]
LONG_AGO = timedelta(minutes=5)


def test_an_old_task_without_any_worker_is_an_ill_queue(alice: User) -> None:
    heartbeat.check_queue()
    task = make_task(owner=alice)
    heartbeat.check_queue()
    Task.objects.filter(pk=task.pk).update(created_at=timezone.now() - LONG_AGO)
    with pytest.raises(NobodyWorks):
        heartbeat.check_queue()
    heartbeat.beat(worker="one", slots=2, runs=0)
    heartbeat.check_queue()
    heartbeat.leave(worker="one")
    with pytest.raises(NobodyWorks):
        heartbeat.check_queue()


def test_a_beat_renews_its_row_and_forgets_the_dead(alice: User) -> None:
    heartbeat.beat(worker="old", slots=1, runs=0)
    WorkerHeartbeat.objects.update(seen_at=timezone.now() - timedelta(days=2))
    for runs in (0, 3):
        heartbeat.beat(worker="new", slots=4, runs=runs)
    assert list(WorkerHeartbeat.objects.values_list("name", "runs")) == [("new", 3)]


def test_the_sweep_command_takes_back_and_rings(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(actors, "ring", rung.append)
    lost, waiting = make_task(owner=alice), make_task(owner=alice)
    assert lease.claim(worker="gone", only=lost.pk)
    expire(lost)
    out = StringIO()
    call_command("sweep", stdout=out)
    assert "1 leases taken back, 2 tasks rung for" in out.getvalue()
    assert set(rung) == {str(lost.pk), str(waiting.pk)}
