"""A worker: slots that run tasks, leases renewed beside them, and the sweeper.

Every run is a process of its own, forked from a preloaded server. This process never does a
task's work, so nothing that a task does keeps it from renewing leases, hearing and sweeping.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import NoReturn

from django.conf import settings
from django.db import close_old_connections, connections
from django.db.utils import DatabaseError

from aimodels import providers
from repositories import missed, webhooks
from tasks import heartbeat, lease, runner, upkeep
from tasks.errors import DeadlinePassed
from tasks.forkserver import ForkServer
from tasks.lease import Claim, Ending
from tasks.models import Status
from tasks.workspace import drop_layers, has_room

logger = logging.getLogger(__name__)

TIDY_SECONDS = 3600.0
POLL_SECONDS = 0.05
END_SECONDS = 2.0  # how long an ending waits for the end of the run's processes
CANCEL_SECONDS = 5.0
"""What a user who cancels may count on, from the wish to the end. On a database that answers, the
timers come to 4.7 s at most: until it is seen 0.5 (``CANCEL_POLL_SECONDS``), until the fork server
hears of it 1 (a preparation that it is at, which may delay the run's start instead), until the
run's processes are gone ``END_SECONDS``, and to read what is kept of its work
``handback.CANCELLED_SECONDS`` and a look of git's watch, 0.2."""
GIVE_BACK_SECONDS = 3.0  # how long a stop waits for killed runs, to give back what nobody works on


def new_name() -> str:
    """Return a name that no other worker has: leases are told apart by it."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Worker:
    """The slots of one worker process. Start it before any thread of the process.

    With ``only`` it runs that one task and leaves all others to other workers. ``ring`` is the
    doorbell for what this worker leaves to others.
    """

    def __init__(
        self,
        *,
        slots: int,
        only: uuid.UUID | None = None,
        ring: Callable[[str], None] = lambda hint: None,
    ) -> None:
        self.name = new_name()
        self._only = only
        self._ring = ring
        self._server = ForkServer(runner.run_in_child, providers.preparations())
        self._size = self._free = slots
        self._room = threading.Condition()
        self._runs: dict[Claim, tuple[int, Future[int]] | None] = {}
        """What is held here, with its process and that one's end; None while it is spawned."""
        self._endings: set[Claim] = set()
        self._draining = threading.Event()
        """Set when nothing may be claimed any more."""
        self._stopping = threading.Event()
        """Set when the runs that are left are killed."""
        self._tidied_at = -TIDY_SECONDS
        self._watching = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        connections.close_all()
        self._server.start()
        self._watching.start()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    # --- stopping ------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """How many slots are taken, also for the moment of a claim, and endings of runs."""
        return self._size - self._free + len(self._endings)

    @property
    def runs(self) -> int:
        """How many runs there are, with those whose end is being written."""
        return len({*self._runs, *self._endings})

    def drain(self) -> None:
        """Claim nothing more and ask every run to stop at its next step. Waits for nothing.

        Leases are renewed and cancellations heard until ``stop``.
        """
        self._draining.set()
        for run in list(self._runs.values()):
            if run is not None:
                self._server.ask_to_stop(run[0])

    def pass_on(self) -> None:
        """Ring for what is due: this worker may have heard of it, and takes it no more."""
        try:
            for task_id in list(lease.due().values_list("pk", flat=True)[: self._size]):
                self._ring(str(task_id))
        except DatabaseError as error:
            logger.warning("nothing is passed on: %s", type(error).__name__)

    def stop(self) -> None:
        """Claim nothing more, kill the runs that are left and give their leases back."""
        self._draining.set()
        self._stopping.set()
        for run in list(self._runs.values()):
            if run is not None:
                self._server.kill(run[0])
        # Each slot gives its own lease back once its process is gone.
        end = time.monotonic() + GIVE_BACK_SECONDS
        while self.busy and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        # It would say again that this worker is alive.
        self._watching.join(1)
        try:
            for claimed in list(self._runs):
                lease.give_back(claimed, is_lost=False)
                self._ring(str(claimed.task_id))
            heartbeat.leave(worker=self.name)
        except DatabaseError as error:
            logger.warning("leases are left to run out: %s", type(error).__name__)

    # --- slots ---------------------------------------------------------------------------------

    def serve(self) -> bool:
        """Claim the next task that is due, if a slot is free; tell whether one was claimed.

        The caller only claims. The task runs in a thread of its own, as do those after it.
        """
        if not self._take_slot():
            return False
        claimed = None
        # The listener's thread lives as long as the worker; the database may have been restarted.
        close_old_connections()
        try:
            claimed = self._claim()
        finally:
            close_old_connections()
            if claimed is None:
                self._free_slot()
        if claimed is not None:
            threading.Thread(target=self._work, args=(claimed,), name="slot", daemon=True).start()
        return claimed is not None

    def wait_for_room(self, seconds: float) -> bool:
        """Wait for a free slot and room on the disk; a worker that stops has none.

        Tell whether both are there.
        """
        with self._room:
            return self._room.wait_for(self._has_room, seconds)

    def _has_room(self) -> bool:
        return self._free > 0 and self._may_claim()

    def _may_claim(self) -> bool:
        """Tell whether a run could begin here. Without room on the disk it would only fail."""
        if self._draining.is_set():
            return False
        return self._only is not None or has_room()

    def _take_slot(self) -> bool:
        with self._room:
            if not self._has_room():
                return False
            self._free -= 1
            return True

    def _free_slot(self) -> None:
        with self._room:
            self._free += 1
            self._room.notify_all()

    def _claim(self) -> Claim | None:
        claimed = lease.claim(worker=self.name, only=self._only)
        if claimed is not None:
            # Before its process is there: from now on it is renewed, and given back.
            self._runs[claimed] = None
        return claimed

    def _work(self, claimed: Claim | None) -> None:
        """Run a claim and what is due after it, one task after another, in a slot that is held."""
        try:
            while claimed is not None:
                try:
                    self._run(claimed)
                finally:
                    del self._runs[claimed]
                claimed = self._claim() if self._may_claim() else None
        finally:
            self._free_slot()
            connections.close_all()

    def _run(self, claimed: Claim) -> None:
        """Run a claim to the end of its process, and end or give back what it left behind."""
        if not self._draining.is_set():
            status = self._run_process(claimed)
            logger.info("run %s ended with status %s", claimed.task_id, status)
            _drop_layers(claimed)
        if claimed not in self._endings:
            # A run that ended itself holds no lease any more; this finds only those that died,
            # or were killed by ``stop``.
            lease.give_back(claimed, is_lost=not self._draining.is_set())
        if self._draining.is_set():
            self._ring(str(claimed.task_id))

    def _run_process(self, claimed: Claim) -> int:
        """Return the wait status of the claim's process."""
        try:
            pid, ended = self._server.spawn(str(claimed.task_id), claimed.generation)
        except ChildProcessError:
            # No other slot of this process may claim what is given back here.
            self._draining.set()
            lease.give_back(claimed, is_lost=False)
            _give_up()
        self._runs[claimed] = (pid, ended)
        connections.close_all()
        try:
            # They may have been set after the claim, and before there was a process to tell.
            if self._stopping.is_set():
                self._server.kill(pid)
            elif self._draining.is_set():
                self._server.ask_to_stop(pid)
            return ended.result()
        except ChildProcessError:
            _give_up()

    # --- beside the runs -----------------------------------------------------------------------

    def _watch(self) -> None:
        """Renew leases, hear of cancellations and deadlines. It never waits for a run."""
        renewed_at = float("-inf")
        while not self._stopping.wait(settings.CANCEL_POLL_SECONDS):
            now = time.monotonic()
            try:
                if now - renewed_at >= settings.LEASE_RENEW_SECONDS:
                    self._renew()
                    renewed_at = now
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
        # One that is being spawned will be found again, with its process.
        is_spawning = self._runs.get(claimed, ()) is None
        if claimed not in self._endings and not is_spawning:
            self._endings.add(claimed)
            threading.Thread(target=self._end, args=(claimed, ending), daemon=True).start()

    def _end(self, claimed: Claim, ending: Ending) -> None:
        """End a run, however often the database is away: nobody else gives its lease back."""
        try:
            while not self._try_to_end(claimed, ending):
                if self._stopping.wait(settings.CANCEL_POLL_SECONDS):
                    break
        finally:
            self._endings.discard(claimed)
            connections.close_all()

    def _try_to_end(self, claimed: Claim, ending: Ending) -> bool:
        try:
            self._end_run(claimed, ending)
        except (DatabaseError, ChildProcessError) as error:
            logger.warning("run %s is not ended yet: %s", claimed.task_id, type(error).__name__)
            close_old_connections()
            return False
        return True

    def _end_run(self, claimed: Claim, ending: Ending) -> None:
        """End the run's processes first: whoever sees the status may count on them being gone."""
        run = self._runs.get(claimed)
        if run is not None:
            pid, ended = run
            self._server.kill(pid)
            if not wait([ended], timeout=END_SECONDS).done:
                logger.warning("run %s: its processes do not end", claimed.task_id)
        runner.end_from_outside(claimed, ending)

    def _tidy(self) -> None:
        if time.monotonic() - self._tidied_at >= TIDY_SECONDS:
            self._tidied_at = time.monotonic()
            upkeep.tidy()

    def _sweep(self) -> None:
        """Take back what lost its worker and serve what nobody claimed; needs no message."""
        while True:
            try:
                lease.take_back_expired()
                lease.end_overdue()
                webhooks.ring_waiting()
                missed.ring_due()
                self._tidy()
                if not self._draining.is_set() and not self._may_claim():
                    logger.warning("nothing is claimed: the disk of VAR_DIR has too little room")
                while self.serve():
                    pass
            except DatabaseError as error:
                logger.warning("the database did not answer: %s", type(error).__name__)
            except Exception:
                # One task that cannot be swept must not end the sweeping of all others.
                logger.exception("the sweeper goes on after a fault of ours")
            finally:
                close_old_connections()
            if self._draining.wait(settings.SWEEP_SECONDS):
                break


def _drop_layers(claimed: Claim) -> None:
    try:
        drop_layers(claimed.task_id, up_to=claimed.generation)
    except OSError:
        # What is left costs disk; the task must be given back all the same.
        logger.exception("run %s: its scratch folders are left", claimed.task_id)


def _give_up() -> NoReturn:
    """End this process: without its fork server it is of no use; its supervisor starts another."""
    logger.error("the fork server is gone")
    os._exit(1)
