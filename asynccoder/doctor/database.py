"""The database: it answers, has its tables, and is set up so that no claim is lost."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import DatabaseError

from accounts.models import User
from asynccoder.doctor import machine
from asynccoder.doctor.findings import Finding, Verdict, failed, ok, warning

SLOW_MS = 50.0
"""Above this a conditional UPDATE is slow: each step of a run makes several of them."""
UPDATES = 5


def check_database() -> Iterator[Finding]:
    """Look at the rest only where the database answers."""
    try:
        connection.ensure_connection()
        version = connection.get_database_version()
        found = [*_migrations(), *_version(version)]
        found += _sqlite() if connection.vendor == "sqlite" else _postgres()
        if not any(finding.verdict == Verdict.FAILED for finding in found):
            found += _round_trip()
    except DatabaseError as error:
        yield failed(f"it does not answer ({type(error).__name__}): check DATABASE_URL.")
        return
    yield from found
    if not found:
        numbers = ".".join(map(str, version))
        yield ok(f"{connection.display_name} {numbers}, all migrations applied")


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        yield failed(f"{len(waiting)} migrations are not applied: run manage.py migrate.")


def _version(version: tuple[int, ...]) -> Iterator[Finding]:
    oldest = connection.features.minimum_database_version
    if oldest and version < oldest:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, oldest))
        yield failed(f"{connection.display_name} {found} is too old: it must be {needed} or newer.")


def _sqlite() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = str(cursor.fetchone()[0])
    options = connection.settings_dict.get("OPTIONS", {})
    if mode != "wal" or str(options.get("transaction_mode", "")).upper() != "IMMEDIATE":
        yield failed(
            f"SQLite is in journal mode {mode} with {options.get('transaction_mode', 'deferred')}"
            " transactions: writes at the same time would be lost; take the options of settings.py."
        )
    kind = machine.file_system(Path(str(connection.settings_dict["NAME"])))
    if kind in machine.NETWORKED:
        yield failed(f"SQLite's file lies on a network ({kind}), where its locks do not hold:"
                     " use PostgreSQL.")  # fmt: skip


def _postgres() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW TimeZone")
        zone = str(cursor.fetchone()[0])
    if zone != "UTC":
        yield warning(f"connections are in the time zone {zone}, not UTC: does a pooler share"
                      " sessions? Let it reset them.")  # fmt: skip


def _round_trip() -> Iterator[Finding]:
    """Time the statement that decides every race, on a row that is not there."""
    taken = []
    for _ in range(UPDATES):
        began = time.monotonic()
        User.objects.filter(pk=uuid.uuid4(), is_active=True).update(is_active=True)
        taken.append((time.monotonic() - began) * 1000)
    if statistics.median(taken) > SLOW_MS:
        yield warning(
            f"a conditional UPDATE takes {statistics.median(taken):.0f} ms: put the database nearer"
            " to the workers, or give it more of a machine."
        )
