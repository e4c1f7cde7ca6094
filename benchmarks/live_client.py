"""Many clients in one process: ``python -m benchmarks.live_client URL COUNT EVENTS``.

Each asks for the URL (ws or http) and reads until it has seen so many marks ``@number@``. It says
"ready" once all are connected, then one JSON line: for each client when each mark came, in their
order, by this machine's monotonic clock. What is lost, told twice or told early is not counted.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any
from urllib.parse import urlsplit

MARK = re.compile(rb"@(\d+)@")
CONNECTING = 50
"""At one time."""
MOST_SECONDS = 120


class Client(asyncio.Protocol):
    """Reads what comes and looks for marks; of the protocol around them it knows the first answer."""

    def __init__(self, request: bytes, opening: bytes, events: int) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.came: list[float] = []
        self._request, self._opening, self._events = request, opening, events
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now, data = time.monotonic(), self._rest + data
        if not self.opened.done():
            if self._opening not in data:
                self._rest = data
                return
            self.opened.set_result(None)
        end = 0
        for mark in MARK.finditer(data):
            if int(mark[1]) == len(self.came):
                self.came.append(now)
            end = mark.end()
        self._rest = data[max(end, len(data) - 64) :]
        if len(self.came) >= self._events and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, reason: Exception | None) -> None:
        for waited in (self.opened, self.done):
            if not waited.done():
                waited.set_exception(reason or ConnectionError("the server has ended the line"))


def request_of(url: str) -> tuple[bytes, bytes]:
    """Return what to send, and what the last piece of a good beginning holds."""
    parts = urlsplit(url)
    head = f"GET {parts.path or '/'}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    if parts.scheme == "ws":
        head += (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        return f"{head}\r\n".encode(), b'"connected"' if parts.path != "/" else b"\r\n\r\n"
    return f"{head}X-API-Key: {parts.fragment}\r\n\r\n".encode(), b"retry:"


async def main(url: str, count: int, events: int) -> None:
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    request, opening = request_of(url)
    clients: list[Client] = []
    for start in range(0, count, CONNECTING):
        batch = []
        for _ in range(min(CONNECTING, count - start)):
            _, client = await loop.create_connection(
                lambda: Client(request, opening, events), parts.hostname or "", parts.port or 80
            )
            batch.append(client)
        async with asyncio.timeout(MOST_SECONDS):
            await asyncio.gather(*(client.opened for client in batch))
        clients += batch
    print("ready", flush=True)
    await asyncio.wait([client.done for client in clients], timeout=MOST_SECONDS)
    print(json.dumps([client.came for client in clients]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
