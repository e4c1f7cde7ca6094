"""The database's connection of this thread."""

from __future__ import annotations

from django.db import connection


def let_go() -> None:
    """Give the connection back before a wait that may take minutes; the next query opens another.

    One to SQLite is a file that nobody waits for, and to close the last one costs a checkpoint.
    """
    if connection.vendor != "sqlite":
        connection.close()
