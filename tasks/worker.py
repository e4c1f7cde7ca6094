"""A worker: slots that run tasks, leases renewed beside them, and the sweeper.

Every run is a process of its own, forked from a preloaded server. This process never does a
task's work, so nothing that a task does can keep it from renewing leases, from hearing of a
cancellation or from sweeping.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from concurrent.futures import Future
from importlib import import_module
from typing import NoReturn

from django.conf import settings
from django.db import close_old_connections, connections
from django.db.utils import DatabaseError

from accounts import tokens
from tasks import heartbeat, lease, runner
from tasks.errors import DeadlinePassed, SandboxMissing
from tasks.forkserver import ForkServer
from tasks.lease import Claim, Ending
from tasks.models import Status
from tasks.sandbox.orphans import reap_orphans
from tasks.workspace import drop_layers

logger = logging.getLogger(__name__)


def new_name() -> str:
    """Return a name that no other worker has: leases are told apart by it."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Worker:
    """The slots of one worker process. Start it before any thread of the process.

    With ``only`` it runs that one task and leaves all others to other workers.
    """

    def __init__(self, *, slots: int, only: uuid.UUID | None = None) -> None:
        self.name = new_name()
        self._only = only
        self._server = ForkServer(runner.run_in_child)
        self._size = slots
        self._slots = threading.Semaphore(slots)
        self._runs: dict[Claim, int] = {}
        self._ended_here: set[Claim] = set()
        self._endings: set[Claim] = set()
        self._stopping = threading.Event()
        self._tidied_at = -TIDY_SECONDS
        self._watching: threading.Thread | None = None

    def start(self) -> None:
        connections.close_all()
        self._server.start()
        for target in (self._watch, self._sweep):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def stop(self) -> None:
        """Claim nothing more, end the runs at their last step and give their leases back."""
        self._stopping.set()
        for claimed, pid in list(self._runs.items()):
            lease.give_back(claimed, is_lost=False)
            self._server.kill(pid)
        heartbeat.leave(worker=self.name)

    # --- slots ---------------------------------------------------------------------------------

    def serve(self) -> None:
        """Run what is due, one task after another, while a slot is free."""
        if not self._slots.acquire(blocking=False):
            return
        try:
            while not self._stopping.is_set():
                claimed = lease.claim(worker=self.name, only=self._only)
                if claimed is None:
                    break
                self._run(claimed)
        finally:
            self._slots.release()
            connections.close_all()

    def _run(self, claimed: Claim) -> None:
        """Run a claim to the end of its process, and end or give back what it left behind."""
        try:
            pid, ended = self._server.spawn(str(claimed.task_id), claimed.generation)
        except ChildProcessError:
            # No other slot of this process may claim what is given back here.
            self._stopping.set()
            lease.give_back(claimed, is_lost=False)
            _give_up()
        self._runs[claimed] = pid
        connections.close_all()
        try:
            status = self._wait(ended)
        finally:
            del self._runs[claimed]
        logger.info("run %s ended with status %s", claimed.task_id, status)
        drop_layers(claimed.task_id, up_to=claimed.generation)
        if claimed in self._ended_here:
            self._ended_here.discard(claimed)
        elif not self._stopping.is_set():
            # A run that ended itself holds no lease any more; this finds only those that died.
            lease.give_back(claimed, is_lost=True)

    def _wait(self, ended: Future[int]) -> int:
        try:
            return ended.result()
        except ChildProcessError:
            _give_up()

    # --- beside the runs -----------------------------------------------------------------------

    def _watch(self) -> None:
        """Renew leases, hear of cancellations and deadlines. It never waits for a run."""
        since_renewal = float("inf")
        while not self._stopping.wait(settings.CANCEL_POLL_SECONDS):
            since_renewal += settings.CANCEL_POLL_SECONDS
            try:
                if since_renewal >= settings.LEASE_RENEW_SECONDS:
                    self._renew()
                    since_renewal = 0.0
                if self._runs:
                    self._end_unwanted()
            except DatabaseError as error:
                logger.warning("the database did not answer: %s", type(error).__name__)
                close_old_connections()
            except Exception:
                # Without this thread every lease of the worker would run out.
                logger.exception("the watch goes on after a fault of ours")

    def _renew(self) -> None:
        heartbeat.beat(worker=self.name, slots=self._size, runs=len(self._runs))
        held = {*self._runs, *self._endings}
        lease.renew(worker=self.name, task_ids=[claimed.task_id for claimed in held])

    def _end_unwanted(self) -> None:
        for claimed in lease.cancelled_runs(self.name):
            self._begin_end(claimed, Ending(Status.CANCELLED))
        for claimed in lease.overdue_runs(self.name):
            self._begin_end(claimed, Ending.failed(DeadlinePassed()))

    def _begin_end(self, claimed: Claim, ending: Ending) -> None:
        """End a run beside the others: to read a hostile diff may take longer than a lease."""
        if claimed not in self._endings:
            self._endings.add(claimed)
            threading.Thread(target=self._end, args=(claimed, ending), daemon=True).start()

    def _end(self, claimed: Claim, ending: Ending) -> None:
        try:
            self._end_run(claimed, ending)
        except (DatabaseError, ChildProcessError) as error:
            logger.warning("run %s is not ended yet: %s", claimed.task_id, type(error).__name__)
        finally:
            self._endings.discard(claimed)
            connections.close_all()

    def _end_run(self, claimed: Claim, ending: Ending) -> None:
        """End the run's processes first: whoever sees the status may count on them being gone."""
        pid = self._runs.get(claimed)
        if pid is not None:
            self._ended_here.add(claimed)
            self._server.kill(pid)
        runner.end_from_outside(claimed, ending)

    def _tidy(self) -> None:
        """Forget sign-ins that ran out, now and then."""
        if time.monotonic() - self._tidied_at >= TIDY_SECONDS:
            self._tidied_at = time.monotonic()
            tokens.forget_expired()
            engine = import_module(settings.SESSION_ENGINE)
            engine.SessionStore.clear_expired()

    def _sweep(self) -> None:
        """Take back what lost its worker and serve what nobody claimed; needs no message."""
        while True:
            try:
                lease.take_back_expired()
                lease.end_overdue()
                self._tidy()
                if lease.due().exists():
                    threading.Thread(target=self.serve, name="swept", daemon=True).start()
            except DatabaseError as error:
                logger.warning("the database did not answer: %s", type(error).__name__)
            except Exception:
                # One task that cannot be swept must not end the sweeping of all others.
                logger.exception("the sweeper goes on after a fault of ours")
            finally:
                close_old_connections()
            if self._stopping.wait(settings.SWEEP_SECONDS):
                break


def _give_up() -> NoReturn:
    """End this process: without its fork server it is of no use; its supervisor starts another."""
    logger.error("the fork server is gone")
    os._exit(1)


_here: Worker | None = None
TIDY_SECONDS = 3600.0


def serve_here() -> None:
    """Serve with this process's worker, if it is one (the doorbell's actor calls this)."""
    if _here is not None:
        _here.serve()


def run_forever(*, slots: int, consume: object) -> None:
    """Be a worker until SIGTERM or SIGINT.

    ``consume`` is called once the slots are ready and returns a function that stops listening
    to the doorbell.
    """
    global _here  # One worker a process; the actor has no other way to reach it.
    try:
        runner.prove_sandbox()
    except SandboxMissing as error:
        # Pages and API go on; a worker without a sandbox would only fail people's tasks.
        raise SystemExit(f"worker: {error}") from error
    reap_orphans()
    _here = Worker(slots=slots)
    _here.start()
    stop_listening = consume()  # type: ignore[operator]  # see the docstring
    done = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: done.set())
    done.wait()
    _here.stop()
    stop_listening()
