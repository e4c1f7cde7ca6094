"""Subscribers: each follows one live stream over a socket and notes the numbers that it was told."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress

from websockets.exceptions import ConnectionClosed, InvalidHandshake, WebSocketException
from websockets.sync.client import connect

NORMAL = 1000
STEP_SECONDS = 1.0
AGAIN_SECONDS = 0.5


class Follower:
    """Follows a stream in a thread of its own until it ends or ``stop``.

    It comes back behind what it has seen when the line is cut, as the pages do; ``cuts`` counts
    that. A message without a number is a greeting.
    """

    def __init__(self, url: str) -> None:
        self.seen: list[int] = []
        self.cuts = 0
        self.has_ended = False
        self.broken = ""
        """What ended the thread though it should not have."""
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)

    def wait(self, upto: int, *, seconds: float) -> bool:
        """Wait until it was told of event ``upto``; tell whether it was."""
        end = time.monotonic() + seconds
        while (not self.seen or self.seen[-1] < upto) and time.monotonic() < end:
            time.sleep(0.05)
        return bool(self.seen) and self.seen[-1] >= upto

    def faults(self, upto: int) -> list[str]:
        """Return what is wrong with the numbers 1 to ``upto``."""
        if self.seen == list(range(1, upto + 1)):
            return []
        missed = sorted(set(range(1, upto + 1)) - set(self.seen))
        twice = len(self.seen) - len(set(self.seen))
        told = f"of {upto} events {len(missed)} were missed and {twice} told twice, or not in order"
        line = "ended as a whole" if self.has_ended else self.broken or "still open"
        return [f"{told}; the first missed: {missed[:5]}, lines cut: {self.cuts}, the line: {line}"]

    def _follow(self) -> None:
        while not self._stopping.is_set() and not self.has_ended:
            try:
                with suppress(OSError, InvalidHandshake, WebSocketException):
                    self._read()
            except Exception as error:
                self.broken = repr(error)
                raise
            if not self.has_ended and not self._stopping.wait(AGAIN_SECONDS):
                self.cuts += 1

    def _read(self) -> None:
        after = self.seen[-1] if self.seen else 0
        with connect(f"{self._url}&after={after}", close_timeout=1) as socket:
            while not self._stopping.is_set():
                try:
                    message = json.loads(socket.recv(timeout=STEP_SECONDS))
                except TimeoutError:
                    continue
                except ConnectionClosed as closed:
                    self.has_ended = closed.rcvd is not None and closed.rcvd.code == NORMAL
                    return
                if message.get("type") not in ("connected", "ping"):
                    self.seen.append(message["sequence"])
