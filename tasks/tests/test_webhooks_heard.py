"""A worker works on stored webhooks: at once where it hears of them, else when it sweeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from asynccoder.tests.processes import Process, wait_for
from repositories.models import PullRequest, Repository, RepositoryWebhook, WebhookDelivery
from tasks import actors
from tasks.models import WorkerHeartbeat
from tasks.tests.make import make_repository
from tasks.tests.world import SHORT

pytestmark = pytest.mark.services
FOR_EVER = "3600"


def make_delivery(*, waited: timedelta = timedelta()) -> WebhookDelivery:
    since = timezone.now() - waited
    made: WebhookDelivery = WebhookDelivery.objects.create(
        delivery="one",
        event="ping",
        github_id=5000,
        hook_id=7,
        data={"events": ["push"], "is_active": True},
        received_at=since,
        run_after=since,
    )
    return made


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_worker_works_on_a_stored_delivery(
    is_heard: bool, alice: User, worker_process: Callable[..., Process]
) -> None:
    make_repository(owner=alice, kind=Repository.Kind.GITHUB, github_id=5000)
    # A worker without a free slot hears it, too.
    sweep = FOR_EVER if is_heard else "0.2"
    worker = worker_process(**SHORT | {"SWEEP_SECONDS": sweep, "WORKER_SLOTS": "0"})
    wait_for(lambda: WorkerHeartbeat.objects.exists(), what=worker.output())
    if is_heard:
        actors.ring_webhook(make_delivery().pk)
    else:
        make_delivery(waited=timedelta(minutes=1))
    wait_for(
        lambda: WebhookDelivery.objects.get().state == WebhookDelivery.State.DONE,
        what="the delivery is worked on",
    )
    assert RepositoryWebhook.objects.get().hook_id == 7


def test_a_worker_asks_about_pull_requests_that_are_due(
    alice: User, worker_process: Callable[..., Process]
) -> None:
    now = timezone.now()
    pull = PullRequest.objects.create(
        repository=make_repository(owner=alice, kind=Repository.Kind.GITHUB),
        number=1,
        url="https://github.com/octo/app/pull/1",
        described_at=now,
        check_after=now - timedelta(minutes=1),
    )
    worker = worker_process(**SHORT | {"SWEEP_SECONDS": "0.2"})

    def is_put_off() -> bool:
        pull.refresh_from_db()
        return pull.check_after > now

    wait_for(is_put_off, what=worker.output())
