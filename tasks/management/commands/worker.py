"""Run tasks: a supervisor that keeps one worker process alive."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, NoReturn

import dramatiq
from django.conf import settings
from django.core.management.base import BaseCommand

from asynccoder.launcher import children
from tasks import duty
from tasks.actors import broker, ring, webhook_broker
from tasks.forkserver import die_with_parent

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


class Command(BaseCommand):
    help = "Run tasks until SIGTERM; the worker process is restarted whenever it ends."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slots", type=int, default=settings.WORKER_SLOTS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Fork the worker, wait for its end, and fork it again until told to stop."""
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            status = supervise(
                lambda: duty.run_forever(slots=options["slots"], consume=consume, ring=ring)
            )
            if status is None:
                return
            pause = FIRST_PAUSE if time.monotonic() - began > 60 else min(pause * 2, LONGEST_PAUSE)
            self.stderr.write(f"worker ended ({status}); starting again in {pause:.0f} s")
            time.sleep(pause)


def consume() -> Callable[[], None]:
    """Listen to the doorbell and for webhooks; return what stops it.

    One thread each is enough: the one claims, and the worker's slots run; the other fetches. They
    are not waited for at the end, since nothing is lost with them: a bell that was heard and not
    answered comes back.
    """
    listeners = [
        dramatiq.Worker(broker, queues={"tasks"}, worker_threads=1),
        dramatiq.Worker(webhook_broker, queues={"webhooks"}, worker_threads=1),
    ]
    for listener in listeners:
        listener.start()

    def stop() -> None:
        for listener in listeners:
            listener.stop(timeout=0)

    return stop


def supervise(work: Callable[[], None]) -> int | None:
    """Run ``work`` in a child; return its wait status, or None after SIGTERM or SIGINT.

    The signals are blocked and fetched one by one: one that came just before a wait for the child
    would not end that wait.
    """
    children.adopt_orphans()
    # Of a signal whose default is to be ignored, not every system keeps what comes while blocked.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _work_in_child(work, parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    is_stopped = False
    while not _has_ended(pid):
        if signal.sigwait(HEARD) != signal.SIGCHLD:
            is_stopped = True
            # Not reaped before nobody can be told any more: its number could be another's.
            os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    # A worker that was killed leaves the git of its runs behind.
    children.end_orphans()
    if is_stopped or signal.sigpending() & {signal.SIGTERM, signal.SIGINT}:
        return None
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    return status


def _work_in_child(work: Callable[[], None], parent: int) -> NoReturn:
    die_with_parent(parent)
    # A Ctrl-C reaches the whole group of a terminal; the worker would hear it twice.
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    status = 1
    try:
        work()
        status = 0
    except SystemExit as error:
        sys.stderr.write(f"{error}\n")
    except BaseException:  # noqa: BLE001 - a forked child must never run its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _has_ended(pid: int) -> bool:
    """Reap the orphans that have ended; tell whether the worker has, which is not reaped."""
    while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG):
        if ended.si_pid == pid:
            return True
        os.waitpid(ended.si_pid, 0)
    return False
