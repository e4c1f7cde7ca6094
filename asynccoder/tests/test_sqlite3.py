"""The embedded database under the threads of one process."""

from __future__ import annotations

import gc
import threading

import pytest
from django.db import connection, transaction

from accounts.models import User
from asynccoder.sqlite3 import base
from asynccoder.tests.processes import wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="of SQLite alone"),
]


class Knot:
    """Garbage that only the collector finds, with a cursor in it, as Django's errors leave it."""

    def __init__(self) -> None:
        self.me = self
        self.cursor = connection.connection.cursor()
        self.cursor.execute("SELECT 1")


def test_a_writer_that_collects_a_waiting_threads_cursor_blocks_nobody(alice: User) -> None:
    told: list[str] = []

    def write() -> None:
        try:
            connection.ensure_connection()
            Knot()
            with transaction.atomic():
                User.objects.filter(pk=alice.pk).update(display_name="waited")
            told.append("written")
        finally:
            connection.close()

    gc.disable()
    try:
        with transaction.atomic():
            User.objects.filter(pk=alice.pk).update(display_name="first")
            thread = threading.Thread(target=write)
            thread.start()
            wait_for(lambda: len(base._waiting) == 2, what="the other thread waits for its turn")
            gc.collect()
    finally:
        gc.enable()
    thread.join()
    assert told == ["written"]


@pytest.mark.parametrize("ending", ["commit", "error", "close"])
def test_a_transaction_gives_its_turn_back_however_it_ends(alice: User, ending: str) -> None:
    if ending == "close":
        with transaction.atomic():
            connection.close()
    elif ending == "error":
        with pytest.raises(RuntimeError), transaction.atomic():
            raise RuntimeError
    else:
        with transaction.atomic(), transaction.atomic():
            User.objects.update(display_name="x")
    assert not base._waiting


def test_who_has_waited_too_long_for_a_turn_asks_sqlite_itself(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.1)
    stuck = threading.Event()
    base._waiting.append(stuck)
    with transaction.atomic():
        User.objects.update(display_name="x")
    assert list(base._waiting) == [stuck]
    base._waiting.remove(stuck)
