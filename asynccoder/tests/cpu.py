"""Processor time: what a busy machine does not change."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail unless this thread, and the processes that end within the block, need less."""
    began = _used()
    yield
    used = _used() - began
    assert used < seconds, f"{used:.1f} s of processor time"


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.thread_time() + children.ru_utime + children.ru_stime
