"""Work done by many at once: threads in several processes, each with connections of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any, Self

from asynccoder.tests.processes import wait_for

WAIT_SECONDS = 300.0
_meeting: Barrier | None = None


class Crowd:
    """So many processes that live as long as the block and have Django set up.

    What they do are functions of a module, what goes in and out is pickled.
    """

    def __init__(self, processes: int) -> None:
        self.size = processes

    def __enter__(self) -> Self:
        # Not forked: the campaign's process has connections and threads of its own.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            self.size, context, initializer=_begin, initargs=(context.Barrier(self.size),)
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def together(self, work: Callable[..., Any], shares: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call ``work(*share)`` in every process, one share each; return what they returned.

        Inside, ``meet`` waits until all have come to it.
        """
        if len(shares) != self.size:
            raise ValueError(f"{len(shares)} shares for {self.size} processes")
        return list(self._pool.map(_take_part, [work] * self.size, shares))

    def at_once(
        self, work: Callable[[Any], object], items: Sequence[Any], *, threads: int
    ) -> list[str]:
        """Call ``work(item)`` on ``threads`` threads over all processes that start together.

        Return what each gave as text; an exception is told as ``Kind: message``.
        """
        each = -(-threads // self.size)
        shares = [(work, list(items[number :: self.size]), each) for number in range(self.size)]
        return [told for part in self.together(_on_threads, shares) for told in part]


def meet() -> None:
    """Wait for the other processes of the crowd."""
    if _meeting is None:
        raise RuntimeError("this process is not of a crowd")
    _meeting.wait(WAIT_SECONDS)


def _begin(meeting: Barrier) -> None:
    import django

    global _meeting
    _meeting = meeting
    django.setup()


def _take_part(work: Callable[..., Any], share: tuple[Any, ...]) -> Any:
    """Start with the others: none of them can take a second share before all have taken one."""
    from django.db import connections

    meet()
    try:
        return work(*share)
    except BaseException:
        # The others would wait for this process at their next meeting.
        if _meeting is not None:
            _meeting.abort()
        raise
    finally:
        connections.close_all()


def _on_threads(work: Callable[[Any], object], items: list[Any], threads: int) -> list[str]:
    start = threading.Barrier(threads)

    def do(share: list[Any]) -> list[str]:
        from django.db import connection

        _connect()
        start.wait(WAIT_SECONDS)
        try:
            return [_told(work, item) for item in share]
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(do, [items[number::threads] for number in range(threads)])
        return [told for part in parts for told in part]


def _connect() -> None:
    """Open this thread's connection; a server that others have filled up is asked again."""
    from django.db import OperationalError, connection

    def is_open() -> bool:
        with contextlib.suppress(OperationalError):
            connection.ensure_connection()
        return connection.connection is not None

    wait_for(is_open, seconds=60, what="the database takes a connection more")


def _told(work: Callable[[Any], object], item: Any) -> str:
    try:
        return str(work(item))
    except Exception as error:  # noqa: BLE001 - whatever it is, the campaign judges it
        return f"{type(error).__name__}: {error}"
