"""Following a topic over one line, a socket or a stream of events, until it ends.

The line's ways of speaking are its own; what is sent, in which order and for how long is decided
here, the same for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tasks import live, messages

NORMAL, NOT_SIGNED_IN, NOT_YOURS, NOT_FOUND, AUTH_LATE, TOO_MANY = (
    1000, 4401, 4403, 4404, 4408, 4429,
)  # fmt: skip
"""Why a line was ended: the close codes of sockets."""
RECHECK_SECONDS = 30.0


class Closed(Exception):
    """End the line for this reason."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Gone(Exception):
    """The client has left."""


class Line(Protocol):
    """One client that listens."""

    beat_seconds: float
    """How often it is told that the line lives; 0 for never."""

    async def tell(self, event: live.Encoded) -> None:
        """Send an event."""
        ...

    async def beat(self, place: int) -> None:
        """Say that the line lives, and up to which number everything was told."""
        ...

    async def hear(self) -> Any:
        """Return what the client says. Raises Gone when it leaves."""
        ...


MayListen = Callable[[], Awaitable[bool]]


async def follow(line: Line, topic: str, after: int | None, may_listen: MayListen) -> None:
    """Tell the line the topic's events behind ``after``; without it, those from now on.

    Raises Closed at the end of the topic or of the right to listen, Gone when the client leaves.
    """
    hub = live.hub(messages.Database())
    async with hub.listen(topic, after) as listener:
        works = [_tell_all(line, hub, listener), _until_gone(line), _recheck(may_listen)]
        if line.beat_seconds:
            works.append(_beat(line, listener))
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        done.pop().result()


async def _tell_all(line: Line, hub: live.Hub, listener: live.Listener) -> None:
    async for event in hub.events(listener):
        await line.tell(event)
        if event.is_last:
            raise Closed(NORMAL)


async def _until_gone(line: Line) -> None:
    while True:
        await line.hear()


async def _recheck(may_listen: MayListen) -> None:
    """End the line of an account that was signed out, disabled or shut out meanwhile."""
    is_allowed = True
    while is_allowed:
        await asyncio.sleep(RECHECK_SECONDS)
        is_allowed = await may_listen()
    raise Closed(NOT_SIGNED_IN)


async def _beat(line: Line, listener: live.Listener) -> None:
    while True:
        await line.beat(listener.place)
        await asyncio.sleep(line.beat_seconds)
