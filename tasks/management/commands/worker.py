"""Run tasks: a supervisor that keeps one worker process alive."""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import dramatiq
from django.conf import settings
from django.core.management.base import BaseCommand

from tasks import worker
from tasks.actors import broker
from tasks.forkserver import die_with_parent

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0


class Command(BaseCommand):
    help = "Run tasks until SIGTERM; the worker process is restarted whenever it ends."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slots", type=int, default=settings.WORKER_SLOTS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Fork the worker, wait for its end, and fork it again until told to stop."""
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            status = supervise(lambda: worker.run_forever(slots=options["slots"], consume=consume))
            if status is None:
                return
            pause = FIRST_PAUSE if time.monotonic() - began > 60 else min(pause * 2, LONGEST_PAUSE)
            self.stderr.write(f"worker ended ({status}); starting again in {pause:.0f} s")
            time.sleep(pause)


def consume() -> Callable[[], None]:
    """Listen to the doorbell with one thread a slot; return what stops it."""
    listener = dramatiq.Worker(
        broker, queues={"tasks"}, worker_threads=settings.WORKER_SLOTS, worker_timeout=50
    )
    listener.start()
    return lambda: listener.stop(timeout=5_000)


def supervise(work: Callable[[], None]) -> int | None:
    """Run ``work`` in a child; return its wait status, or None after SIGTERM or SIGINT."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(parent)
        status = 1
        try:
            work()
            status = 0
        except SystemExit as error:
            sys.stderr.write(f"{error}\n")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    stopped: list[int] = []

    def forward(number: int, _: object) -> None:
        stopped.append(number)
        os.kill(pid, signal.SIGTERM)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, forward)
    _, status = os.waitpid(pid, 0)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_DFL)
    return None if stopped else status
