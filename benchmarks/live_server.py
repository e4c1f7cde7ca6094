"""The floors of ``benchmarks.live``: what is left when Redis's messages are passed on and no more.

``python -m benchmarks.live_server PORT`` is a bare ``websockets`` server; ``stream`` is a raw ASGI
application for daphne. Both pass on what is published on BENCH_CHANNEL: no account, no database, no
replay, no waiting for clients that do not read.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio as redis
from websockets.asyncio.server import ServerConnection, serve


async def subscribed() -> redis.client.PubSub:
    """Return the subscription once Redis has confirmed it: what comes then is heard."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    pubsub = client.pubsub()
    await pubsub.subscribe(os.environ["BENCH_CHANNEL"])
    await pubsub.get_message(timeout=30)
    return pubsub


async def published(pubsub: redis.client.PubSub) -> AsyncIterator[str]:
    async for message in pubsub.listen():
        if message["type"] == "message":
            yield message["data"]


async def sockets(port: int) -> None:
    queues: set[asyncio.Queue[str]] = set()

    async def tell(connection: ServerConnection) -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        queues.add(queue)
        try:
            while True:
                # Waits for a client that does not read, as ours does; ``broadcast`` would not.
                await connection.send(await queue.get())
        finally:
            queues.discard(queue)

    pubsub = await subscribed()
    async with serve(tell, "127.0.0.1", port, compression=None, ping_interval=None):
        async for text in published(pubsub):
            for queue in queues:
                queue.put_nowait(text)


listening: set[asyncio.Queue[bytes]] = set()
feeding: list[asyncio.Task[None]] = []
starting = asyncio.Lock()


async def _feed(pubsub: redis.client.PubSub) -> None:
    async for text in published(pubsub):
        piece = f"event: log\ndata: {text}\n\n".encode()
        for queue in listening:
            queue.put_nowait(piece)


async def stream(scope: Any, receive: Any, send: Any) -> None:
    """Answer with every message, each as one event, until the client leaves."""
    async with starting:
        if not feeding:
            feeding.append(asyncio.create_task(_feed(await subscribed())))
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    listening.add(queue)
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"retry: 1\n\n", "more_body": True})
    try:
        while True:
            piece = await queue.get()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        listening.discard(queue)


if __name__ == "__main__":
    asyncio.run(sockets(int(sys.argv[1])))
