"""A preloaded process that forks one child for each run, in milliseconds.

Each run is its own process group: ending one never ends another tenant's. What a run has started
in groups of their own (git, its helpers) comes to the fork server when the run dies (Linux), and is
killed before the run is said to have ended. The fork server has one thread, so its children may
fork safely, and it dies with the worker that made it; its children die with it.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from asynccoder.launcher.children import adopt_orphans, orphans

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
MESSAGE_BYTES = 4096
ANSWER_SECONDS = 30.0
IDLE_SECONDS, CALM_SECONDS = 3.0, 60.0
"""How long the server must have been asked for nothing before it prepares something: without a
run, and with one, which may have to be told to stop or killed just then."""


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


Run = Callable[[str, int, Callable[[], bool]], None]
"""Does a run: its task's id, its generation, and whether it was asked to stop."""


class ForkServer:
    """The worker's end. Safe to use from several threads."""

    def __init__(self, run: Run, preparations: Sequence[Callable[[], object]] = ()) -> None:
        """``preparations`` are done in the server, one by one, while it is idle."""
        self._run = run
        self._preparations = preparations
        self._futures: dict[int, Future[int]] = {}
        self._lock = threading.Lock()
        self._orders = itertools.count()
        self._ordered: dict[int, Future[tuple[int, Future[int]]]] = {}
        self.pid = 0

    def start(self) -> None:
        """Fork the server. Call it before any thread is started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        gc.freeze()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            server = _Server(theirs, self._run, [*self._preparations])
            _child(server.serve, parent)
        theirs.close()
        self._socket = ours
        threading.Thread(target=self._listen, name="fork-server", daemon=True).start()

    def spawn(self, task_id: str, generation: int) -> tuple[int, Future[int]]:
        """Start a run; return its process id and a future of its wait status.

        Raises ChildProcessError when the server is gone or does not answer.
        """
        order, spawned = next(self._orders), Future[tuple[int, Future[int]]]()
        self._ordered[order] = spawned
        try:
            with self._lock:
                run = {"do": "run", "order": order, "task_id": task_id, "generation": generation}
                self._send(run)
            return spawned.result(timeout=ANSWER_SECONDS)
        except TimeoutError as error:
            raise ChildProcessError("the fork server does not answer") from error
        finally:
            self._ordered.pop(order, None)

    def ask_to_stop(self, pid: int) -> None:
        """Tell a run, and nothing that it has started, to stop where it can go on later."""
        with self._lock:
            self._send({"do": "stop", "pid": pid})

    def kill(self, pid: int) -> None:
        """End a run's whole process group, if it is still there."""
        with self._lock:
            self._send({"do": "kill", "pid": pid})

    def stop(self) -> None:
        self._socket.close()

    def _send(self, message: dict[str, object]) -> None:
        try:
            self._socket.send(json.dumps(message).encode())
        except OSError as error:
            raise ChildProcessError("the fork server is gone") from error

    def _listen(self) -> None:
        """Hear of children that began and ended, until the server ends."""
        while True:
            try:
                packet = self._socket.recv(MESSAGE_BYTES)
            except OSError:
                packet = b""
            if not packet:
                break
            message = json.loads(packet)
            if "began" in message:
                self._began(message["order"], message["began"])
            else:
                self._futures.pop(message["ended"]).set_result(message["status"])
        # A closed end makes every later order fail at once.
        self._socket.close()
        waiting: list[Future[Any]] = [*self._futures.values(), *self._ordered.values()]
        for future in waiting:
            future.set_exception(ChildProcessError("the fork server is gone"))

    def _began(self, order: int, pid: int) -> None:
        """Hand a child to whoever ordered it; nobody may be waiting for it any more."""
        self._futures[pid] = ended = Future[int]()
        spawned = self._ordered.pop(order, None)
        if spawned is not None:
            spawned.set_result((pid, ended))


class _Server:
    """The fork server's own loop."""

    def __init__(
        self, channel: socket.socket, run: Run, preparations: list[Callable[[], object]]
    ) -> None:
        self._channel = channel
        self._run = run
        self._preparations = preparations
        self._children: set[int] = set()
        self._dead: dict[int, int] = {}
        """Wait statuses of runs that have died, and may have left something behind."""

    def serve(self) -> None:
        adopt_orphans()
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(reader, False)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for name in (signal.SIGINT, signal.SIGTERM):
            # The worker decides what a signal to its whole group means for the runs.
            signal.signal(name, signal.SIG_IGN)
        # A child begins with it blocked, so that no wish to stop comes before it can hear.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        while True:
            channel = self._channel.fileno()
            ready, _, _ = select.select([channel, reader], [], [], self._patience())
            if not ready:
                self._prepare()
            if reader in ready:
                os.read(reader, MESSAGE_BYTES)
                self._reap()
            if channel in ready and not self._obey():
                break
        for pid in self._children:
            _kill_group(pid)

    def _patience(self) -> float | None:
        if not self._preparations:
            return None
        return CALM_SECONDS if self._children else IDLE_SECONDS

    def _prepare(self) -> None:
        """Do the next preparation: what is there before a fork, no run has to do for itself.

        One that fails is left to the runs: it must not end the server, again at every start.
        """
        preparation = self._preparations.pop(0)
        try:
            preparation()
        except Exception:
            logger.exception("a preparation of runs failed")
        # To collect it as garbage would copy its pages into every run.
        gc.freeze()

    def _obey(self) -> bool:
        packet = self._channel.recv(MESSAGE_BYTES)
        if not packet:
            return False
        message = json.loads(packet)
        if message["do"] == "run":
            self._fork(message["order"], message["task_id"], message["generation"])
        elif message["pid"] in self._children:
            if message["do"] == "stop":
                os.kill(message["pid"], signal.SIGTERM)
            else:
                _kill_group(message["pid"])
        return True

    def _fork(self, order: int, task_id: str, generation: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._channel.close()
            signal.set_wakeup_fd(-1)
            for name in (signal.SIGCHLD, signal.SIGINT):
                signal.signal(name, signal.SIG_DFL)
            is_asked = _hear_sigterm()
            os.setsid()
            _child(lambda: self._run(task_id, generation, is_asked), parent)
        self._children.add(pid)
        self._tell({"began": pid, "order": order})

    def _reap(self) -> None:
        """Take the ends of children; a run has ended when nothing that it started is left."""
        for pid in list(self._children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._children.discard(pid)
                self._dead[pid] = status
        if self._end_orphans():
            for pid, status in self._dead.items():
                self._tell({"ended": pid, "status": status})
            self._dead.clear()

    def _end_orphans(self) -> bool:
        """Kill and reap what was left behind; False while some of it dies yet, of which we hear.

        An orphan's own children come next, so look until none are.
        """
        while left := orphans(self._children):
            reaped = 0
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                reaped += os.waitpid(pid, os.WNOHANG)[0] != 0
            if not reaped:
                return False
        return True

    def _tell(self, message: dict[str, int]) -> None:
        try:
            self._channel.send(json.dumps(message).encode())
        except OSError:
            logger.warning("the worker does not listen any more")


def _hear_sigterm() -> Callable[[], bool]:
    """Return what tells whether SIGTERM came; it interrupts nothing that the process does."""
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return lambda: bool(heard)


def _kill_group(pid: int) -> None:
    """Kill a child that is not reaped yet, with its group if it has made one already."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)


def _child(work: Callable[[], None], parent: int) -> None:
    """Do the work of a forked process and end it; never returns."""
    die_with_parent(parent)
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - a forked child must never run its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
