"""Makes daphne wait for clients that read slowly, and sheds those that do not read at all.

Daphne takes whatever it is given into memory, so one socket or stream that nobody reads would grow
without end. Twisted tells a connection's producer when its buffer is full (IPushProducer); until
it is empty again nothing more is handed over. Servers that wait by themselves are left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from autobahn.websocket import protocol as autobahn
from daphne.http_protocol import WebRequest
from daphne.ws_protocol import WebSocketProtocol
from django.conf import settings

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

# For every frame autobahn colours the words of a debug line, whether or not anybody logs it: that
# was most of what a frame costs.
vars(autobahn).update(hltype=lambda value, *_: value, hlval=lambda value, *_: value)


class Gate:
    """Open while the client reads. The names of its methods are Twisted's."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.opened.clear()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.opened.set()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.opened.set()


class Steady:
    """An ASGI application whose ``send`` returns once the client has taken most of what was sent.

    The connection of a client that takes nothing for STALL_SECONDS is cut.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        protocol = _protocol_of(send)
        if protocol is None:
            await self.application(scope, receive, send)
            return
        gate = Gate()

        async def steady(message: dict[str, Any]) -> None:
            _watch(protocol, gate, message)
            await send(message)
            if message.get("more_body", message["type"] == "websocket.send"):
                await _passed(protocol, gate)

        await self.application(scope, receive, steady)


def _protocol_of(send: Send) -> Any:
    """Return daphne's side of the connection, or None under another server."""
    found = send.args[0] if isinstance(send, partial) and send.args else None
    return found if isinstance(found, WebRequest | WebSocketProtocol) else None


def _watch(protocol: Any, gate: Gate, message: dict[str, Any]) -> None:
    """Let the connection tell the gate, from the first to the last piece of an answer."""
    if message["type"] == "websocket.accept":
        # Until the upgrade the connection was that of an HTTP channel, which is its producer still.
        protocol.transport.unregisterProducer()
        protocol.transport.registerProducer(gate, True)  # noqa: FBT003 - Twisted's argument
    elif isinstance(protocol, WebRequest) and not protocol.finished and protocol.channel:
        if message.get("more_body") and protocol.producer is None:
            protocol.registerProducer(gate, True)  # noqa: FBT003 - Twisted's argument
        elif protocol.producer is gate and not message.get("more_body"):
            protocol.unregisterProducer()


async def _passed(protocol: Any, gate: Gate) -> None:
    """Wait for the gate; cut the connection when it stays shut."""
    if gate.opened.is_set():
        return
    try:
        async with asyncio.timeout(settings.STALL_SECONDS):
            await gate.opened.wait()
    except TimeoutError:
        logger.info("a client read nothing for %s s; its line is cut", settings.STALL_SECONDS)
        connection = protocol.channel if isinstance(protocol, WebRequest) else protocol
        if connection is not None:
            connection.transport.abortConnection()
        gate.opened.set()
