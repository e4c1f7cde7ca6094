"""The doorbell. A message carries no work: whoever hears it claims the next task that is due.

The broker's own retries, time limits and delays are left out: the database does all that
(agent-design, section 1).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

import dramatiq
import redis
from django.conf import settings
from django.db import close_old_connections

from asynccoder.lib import bus
from repositories import missed, webhooks
from tasks import duty
from tasks.doorbell import Doorbell

logger = logging.getLogger(__name__)


def _doorbell(wait_for_room: Callable[[float], bool]) -> Doorbell:
    return Doorbell(
        url=settings.REDIS_URL,
        namespace=f"{settings.REDIS_PREFIX}:dramatiq",
        middleware=[],
        heartbeat_timeout=10_000,
        # Of a million commands: what dead workers left is swept up about once a minute.
        maintenance_chance=10_000,
        wait_for_room=wait_for_room,
    )


broker = _doorbell(duty.wait_for_room_here)
dramatiq.set_broker(broker)
# Webhooks need no slot: a full worker hears them, too.
webhook_broker = _doorbell(lambda _: True)


@dramatiq.actor(broker=broker, queue_name="tasks")
def run_due(hint: str) -> None:
    """Claim one task that is due; ``hint`` names the task that rang, for the log only."""
    logger.debug("doorbell for %s", hint)
    duty.serve_here()


@dramatiq.actor(broker=webhook_broker, queue_name="webhooks")
def answer_webhook(delivery_id: str) -> None:
    """Work on the deliveries that are due; ``delivery_id`` names the one that rang, for the log only."""
    logger.debug("webhook %s", delivery_id)
    try:
        webhooks.process_due()
    finally:
        close_old_connections()


@dramatiq.actor(broker=webhook_broker, queue_name="webhooks")
def ask_github(hint: str) -> None:
    """Ask GitHub about the pull requests that are due."""
    try:
        missed.catch_up()
    finally:
        close_old_connections()


def ring(hint: str) -> None:
    """Ring the doorbell. A broker that is away costs only time: the sweeper finds the task."""
    _send(run_due, hint)


def ring_webhook(delivery_id: UUID) -> None:
    """Ring for a stored delivery (UPCALLS, webhook_stored); the sweeper finds it, too."""
    _send(answer_webhook, str(delivery_id))


def ring_pull_requests() -> None:
    """Ring for pull requests that GitHub is to be asked about (UPCALLS, pull_requests_due)."""
    _send(ask_github, "")


def _send(actor: dramatiq.Actor[[str], None], hint: str) -> None:
    if bus.is_hanging():
        return
    try:
        actor.send(hint)
    except (dramatiq.errors.BrokerConnectionError, redis.RedisError) as error:
        bus.note_failure(error)
        logger.warning("doorbell not rung: %s", type(error).__name__)
