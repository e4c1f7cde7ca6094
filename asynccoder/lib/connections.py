"""The database's connection of this thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from django.db import connection

P = ParamSpec("P")
T = TypeVar("T")
_thread = threading.local()


def let_go() -> None:
    """Give the connection back before a wait that may take minutes; the next query opens another.

    One to SQLite is a file that nobody waits for, and to close the last one costs a checkpoint.
    """
    if connection.vendor != "sqlite":
        connection.close()


@contextmanager
def given_back() -> Iterator[None]:
    """Do without the connection in the block: each ``asking`` of this thread gives it back again."""
    let_go()
    _thread.does_without = True
    try:
        yield
    finally:
        _thread.does_without = False


def asking(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask the database something; a thread that does without its connection keeps none."""
    try:
        return read(*args, **kwargs)
    finally:
        if getattr(_thread, "does_without", False):
            let_go()
