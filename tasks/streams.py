"""Server-Sent Events: a task's events as one answer that goes on until the task has ended.

A view decides who may read what, with the limits and errors of every other view. It opens the
Slot of its request; once its (empty) answer has passed the middleware it is continued here, outside of
Django, where a stream holds neither a thread nor a database connection.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.models import User
from accounts.sockets import credential_of, user_of
from asynccoder.lib.connections import given_back
from asynccoder.lib.errors import LimitReached, TryAgain
from asynccoder.lib.places import Places
from tasks import live, messages
from tasks.following import NORMAL, TOO_MANY, Closed, Gone, follow
from tasks.live import Encoded
from tasks.models import Task

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

KEY = "asynccoder.stream"
"""Where the slot of a request is in its scope."""
RETRY_MILLISECONDS = 2_000
RETRY_AFTER = 5
LIMITED = "You follow too many tasks at once."

places = Places()
"""The streams of this process, and the requests that wait for a result."""
waits = Places()
"""The requests of everybody that wait: each holds a thread meanwhile."""


@dataclass(slots=True)
class Slot:
    """What is to be followed once the answer's headers are out."""

    task_id: uuid.UUID | None = None
    after: int = 0
    user_id: uuid.UUID | None = None

    def take(self, user: User) -> None:
        """Take one of the user's places. Raises LimitReached."""
        if not places.take(user.pk, settings.STREAMS_PER_USER):
            raise LimitReached(LIMITED, retry_after=RETRY_AFTER)
        self.user_id = user.pk

    def free(self) -> None:
        if self.user_id is not None:
            places.free(self.user_id)
            self.user_id = None


def slot_of(request: HttpRequest, user: User) -> Slot:
    """Return the request's slot with a place of the user's. Raises TryAgain, LimitReached."""
    slot: Slot | None = getattr(request, "scope", {}).get(KEY)
    if slot is None:
        raise TryAgain("Streams are served by the ASGI server, and this one is not.")
    slot.take(user)
    return slot


def answer(slot: Slot, task: Task, after: int) -> HttpResponse:
    """Return the beginning of the stream of a task's events behind a sequence number."""
    slot.task_id, slot.after = task.pk, after
    # nginx passes an answer with this header on as it comes.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return HttpResponse(content_type="text/event-stream", headers=headers)


class Streams:
    """An ASGI application that continues the answers whose views have opened their slot."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        slot = Slot()
        start: dict[str, Any] = {}

        async def hold_back(message: dict[str, Any]) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_stream(slot, message):
                start = message
            elif not start:
                await send(message)

        try:
            await self.application({**scope, KEY: slot}, receive, hold_back)
            if start:
                await _serve(slot, scope, receive, send, _headers(start))
        finally:
            slot.free()


def _is_stream(slot: Slot, message: Mapping[str, Any]) -> bool:
    return slot.task_id is not None and message["status"] == 200


def _headers(start: dict[str, Any]) -> dict[str, Any]:
    """Return the start of an answer without the length that its empty body had."""
    kept = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
    return start | {"headers": kept}


@dataclass(slots=True)
class Stream:
    """One client of a stream; a Line of ``tasks.following``."""

    receive: Receive
    send: Send
    beat_seconds: float

    async def say(self, text: str) -> None:
        body = text.encode()
        await self.send({"type": "http.response.body", "body": body, "more_body": True})

    async def tell(self, event: Encoded) -> None:
        await self.say(f"event: {event.name}\nid: {event.sequence}\ndata: {event.text}\n\n")

    async def beat(self, place: int) -> None:
        await self.say(": \n\n")

    async def hear(self) -> None:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise Gone


async def _serve(
    slot: Slot, scope: Scope, receive: Receive, send: Send, start: dict[str, Any]
) -> None:
    task_id, user_id = slot.task_id, slot.user_id
    assert task_id is not None  # noqa: S101 - a slot without a task is no stream
    stream = Stream(receive, send, settings.STREAM_BEAT_SECONDS)

    async def may_listen() -> bool:
        return bool(await database_sync_to_async(_may_listen)(scope, user_id, task_id))

    await send(start)
    await stream.say(f"retry: {RETRY_MILLISECONDS}\n\n")
    try:
        await follow(stream, messages.task_topic(task_id), slot.after, may_listen)
    except Gone:
        return
    except Closed as closed:
        if closed.code != NORMAL:
            # Whoever may listen no more is told by the next request, which is refused.
            await stream.say(": no longer allowed\n\n")
    await send({"type": "http.response.body", "body": b""})


def _may_listen(scope: Scope, user_id: uuid.UUID | None, task_id: uuid.UUID) -> bool:
    user = user_of(scope, credential_of(scope))
    if user is None or user.pk != user_id:
        return False
    return bool(Task.objects.visible_to(user).filter(pk=task_id).exists())


def wait_until_ended(task: Task, seconds: float) -> None:
    """Return once the task has ended, when the time is over, or at once where too many wait.

    The connection to the database is given back meanwhile.
    """
    try:
        full = Closed(TOO_MANY)
        with (
            waits.taken(None, settings.WAITS_PER_PROCESS, full),
            places.taken(task.owner_id, settings.STREAMS_PER_USER, full),
            given_back(),
        ):
            async_to_sync(_until_ended)(task, seconds)
    except Closed:
        return


async def _until_ended(task: Task, seconds: float) -> None:
    hub = live.hub(messages.Database())
    topic = messages.task_topic(task.pk)
    try:
        async with asyncio.timeout(seconds), hub.listen(topic, task.event_sequence) as listener:
            async for event in hub.events(listener):
                if event.is_last:
                    return
    except TimeoutError:
        return
