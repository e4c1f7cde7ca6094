"""What is kept of a command's output: its head and its tail."""

from __future__ import annotations


class HeadAndTail:
    """Keep the first and the last ``keep // 2`` bytes of a stream, and count the rest."""

    def __init__(self, keep: int) -> None:
        self._head_room = keep // 2
        self._tail_room = keep - keep // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, chunk: bytes) -> None:
        self.total += len(chunk)
        room = self._head_room - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk
        # Cut rarely: each byte is moved about once, however small the chunks are.
        if len(self._tail) > 2 * self._tail_room + 65536:
            self._trim()

    def value(self) -> bytes:
        self._trim()
        return bytes(self._head + self._tail)

    def _trim(self) -> None:
        excess = len(self._tail) - self._tail_room
        if excess > 0:
            del self._tail[:excess]
