"""A process as a worker: from the doorbell to its claims, from a signal to its end."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable

from django.conf import settings
from django.db import close_old_connections, connection

from tasks import runner
from tasks.errors import SandboxMissing
from tasks.sandbox.orphans import reap_orphans
from tasks.worker import Worker

logger = logging.getLogger(__name__)

_here: Worker | None = None
POLL_SECONDS = 0.05


def serve_here() -> None:
    """Serve with this process's worker, if it is one (the doorbell's actor calls this)."""
    if _here is None:
        return
    try:
        _here.serve()
    finally:
        # The next bell finds a connection open, which is asked first whether it still works.
        close_old_connections()
        connection.ensure_connection()
        connection.health_check_done = False  # type: ignore[attr-defined]  # not in the stubs


def wait_for_room_here(seconds: float) -> bool:
    """Wait for a free slot of this process's worker; tell whether there is one."""
    return _here is not None and _here.wait_for_room(seconds)


def run_forever(
    *, slots: int, consume: Callable[[], Callable[[], None]], ring: Callable[[str], None]
) -> None:
    """Be a worker until SIGTERM or SIGINT; then let the runs come to the end of their steps.

    ``consume`` is called once the slots are ready and returns a function that stops listening
    to the doorbell, which ``ring`` rings. A second signal ends the wait.
    """
    global _here  # One worker a process; the actor has no other way to reach it.
    try:
        runner.prove_sandbox()
    except SandboxMissing as error:
        # Pages and API go on; a worker without a sandbox would only fail people's tasks.
        raise SystemExit(f"worker: {error}") from error
    reap_orphans()
    heard = _hear_signals()
    _here = Worker(slots=slots, ring=ring)
    _here.start()
    stop_listening = consume()
    os.read(heard, 1)
    end = time.monotonic() + settings.STOP_SECONDS
    _here.drain()
    stop_listening()
    _here.pass_on()
    if _here.runs:
        logger.info(
            "stopping; runs that go on to the end of their step, for %g s at most: %s; "
            "a second signal ends them at once", settings.STOP_SECONDS, _here.runs,
        )  # fmt: skip
    while _here.busy and time.monotonic() < end:
        if select.select([heard], [], [], POLL_SECONDS)[0]:
            break
    _here.stop()


def _hear_signals() -> int:
    """Return a descriptor with a byte to read for each SIGTERM and SIGINT of this process."""
    # A handler that sets an Event could interrupt, for ever, the wait for that very Event.
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: None)
    return heard
