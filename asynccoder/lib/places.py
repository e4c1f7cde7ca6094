"""How much at once: what each user may have open, or under way, in this process."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Places:
    """How many lines, or works that cost much, each user has here now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[uuid.UUID | None] = Counter()

    def take(self, key: uuid.UUID | None, most: int) -> bool:
        """Take a place, or return False where all are taken. Whoever has one frees it."""
        with self._lock:
            if self._open[key] >= most:
                return False
            self._open[key] += 1
            return True

    def free(self, key: uuid.UUID | None) -> None:
        with self._lock:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    @contextmanager
    def taken(self, key: uuid.UUID | None, most: int, refusal: Exception) -> Iterator[None]:
        """Hold a place. Raises the refusal where all are taken."""
        if not self.take(key, most):
            raise refusal
        try:
            yield
        finally:
            self.free(key)
