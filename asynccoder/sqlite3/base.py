"""Django's SQLite, with the transactions of one process in a row.

SQLite lets a writer wait by sleeping and trying again, in no order: of many threads some wait past
any timeout. And a connection that waits so keeps its mutex: when the thread that writes collects
another thread's cursor as garbage, each waits for the other until "database is locked". Here the
threads of a process wait for their turn first, so SQLite sees one writer of each process.
"""

from __future__ import annotations

import threading
from collections import deque

from django.db.backends.sqlite3 import base

_lock = threading.Lock()
_waiting: deque[threading.Event] = deque()
"""Who holds the turn, then who waits for it, in the order in which they came."""


class DatabaseWrapper(base.DatabaseWrapper):
    _turn: threading.Event | None = None

    def _start_transaction_under_autocommit(self) -> None:
        self._take_turn()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # not in the stubs
        except BaseException:
            self._give_turn()
            raise

    def _commit(self) -> None:
        try:
            super()._commit()  # type: ignore[misc]  # not in the stubs
        finally:
            self._give_turn()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]  # not in the stubs
        finally:
            self._give_turn()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]  # not in the stubs
        finally:
            self._give_turn()

    def _take_turn(self) -> None:
        """Wait until those before have had theirs; after SQLite's own timeout go on without it."""
        turn = self._turn = threading.Event()
        with _lock:
            _waiting.append(turn)
            if _waiting[0] is turn:
                turn.set()
        if not turn.wait(self.settings_dict["OPTIONS"].get("timeout", 5)):
            self._give_turn()

    def _give_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        with _lock:
            _waiting.remove(turn)
            if _waiting:
                _waiting[0].set()
