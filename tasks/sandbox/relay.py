"""Copies bytes both ways between two sockets; as a program, the way from a sandbox to its proxy.

The host hands this file to the sandbox's init, which runs it with ``python -I -S`` beside every
command, its standard input a socket that listens on the sandbox's own loopback. So it uses the
standard library alone. It decides nothing: who may be reached is the proxy's business, outside.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import time
from collections.abc import Callable

CHUNK = 64 * 1024
PROXY_SOCKET = "/run/proxy.sock"
MOST_CONNECTIONS = 64
A_WEEK = 7 * 86400.0
ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Flow:
    """One direction: what was read from ``source`` and not yet written to ``sink``."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.pending = b""
        self.is_done = False

    def waits_for(self) -> tuple[int, int]:
        """Return the descriptor and the event that this direction goes on with."""
        if self.pending:
            return self.sink.fileno(), select.POLLOUT
        # A source that has ended is watched too, for the end of its other direction.
        return self.source.fileno(), 0 if self.is_done else select.POLLIN

    def step(self, count: Callable[[int], bool]) -> bool:
        """Move some bytes; return whether the connection goes on. Raises OSError."""
        if self.pending:
            self.pending = self.pending[self.sink.send(self.pending) :]
            return True
        chunk = self.source.recv(CHUNK)
        if not chunk:
            self.is_done = True
            self.sink.shutdown(socket.SHUT_WR)
            return True
        self.pending = chunk
        return count(len(chunk))


def relay(
    one: socket.socket,
    other: socket.socket,
    *,
    idle: float,
    until: float,
    count: Callable[[int], bool] = lambda _size: True,
) -> None:
    """Copy both ways until both ends are done, nothing moved for ``idle`` seconds or ``until``.

    ``count`` is told the bytes of each piece before it is passed on and may refuse it, which ends
    the connection. ``until`` is a time of the monotonic clock.
    """
    for end in (one, other):
        end.settimeout(0)
    flows = (Flow(one, other), Flow(other, one))
    with contextlib.suppress(OSError):
        while not all(flow.is_done for flow in flows):
            ready = _ready(flows, min(idle, until - time.monotonic()))
            if not ready or not all(_advance(flow, ready, count) for flow in flows):
                return


def _ready(flows: tuple[Flow, Flow], seconds: float) -> dict[int, int]:
    """Wait for what the directions need and return the events by descriptor."""
    if seconds <= 0:
        return {}
    events: dict[int, int] = {}
    for fd, event in (flow.waits_for() for flow in flows):
        events[fd] = events.get(fd, 0) | event
    poller = select.poll()
    for fd, event in events.items():
        poller.register(fd, event)
    return dict(poller.poll(seconds * 1000))


def _advance(flow: Flow, ready: dict[int, int], count: Callable[[int], bool]) -> bool:
    fd, event = flow.waits_for()
    happened = ready.get(fd, 0)
    if flow.is_done:
        return not happened & ENDED
    if not happened & (event | ENDED):
        return True
    try:
        return flow.step(count)
    except BlockingIOError:
        return True


def forward(client: socket.socket) -> None:
    """Take one connection of a command to the proxy."""
    with client, socket.socket(socket.AF_UNIX) as proxy, contextlib.suppress(OSError):
        proxy.connect(PROXY_SOCKET)
        relay(client, proxy, idle=A_WEEK, until=float("inf"))


def serve(listener: socket.socket) -> None:
    """Forward every connection for as long as the command runs that this process stands beside."""
    slots = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def forward_one(client: socket.socket) -> None:
        with contextlib.closing(client):
            forward(client)
        slots.release()

    while True:
        # More than that wait in the listener's queue.
        slots.acquire()
        client, _ = listener.accept()
        try:
            threading.Thread(target=forward_one, args=(client,), daemon=True).start()
        except RuntimeError:
            # The command has used up the sandbox's processes.
            client.close()
            slots.release()


if __name__ == "__main__":
    serve(socket.socket(fileno=sys.stdin.fileno()))
