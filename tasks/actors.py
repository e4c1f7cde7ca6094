"""The doorbell. A message carries no work: whoever hears it claims the next task that is due.

The broker's own retries, time limits and delays are left out: the database does all that
(agent-design, section 1).
"""

from __future__ import annotations

import logging

import dramatiq
import redis
from django.conf import settings
from dramatiq.brokers.redis import RedisBroker

from tasks import worker

logger = logging.getLogger(__name__)

broker = RedisBroker(  # type: ignore[no-untyped-call]  # its constructor has no annotations
    url=settings.REDIS_URL,
    namespace=f"{settings.REDIS_PREFIX}:dramatiq",
    middleware=[],
    heartbeat_timeout=10_000,
    maintenance_chance=1_000_000,
)
dramatiq.set_broker(broker)


@dramatiq.actor(broker=broker, queue_name="tasks")
def run_due(hint: str) -> None:
    """Serve what is due; ``hint`` names the task that rang, for the log only."""
    logger.debug("doorbell for %s", hint)
    worker.serve_here()


def ring(hint: str) -> None:
    """Ring the doorbell. A broker that is away costs only time: the sweeper finds the task."""
    try:
        run_due.send(hint)
    except (dramatiq.errors.BrokerConnectionError, redis.RedisError) as error:
        logger.warning("doorbell not rung: %s", type(error).__name__)
