"""The sockets: ``/ws`` (a user's feed) and ``/api/ws/{task,build,analysis}/<id>``.

Plain ASGI applications: no channel layer takes part, so that a socket works without Redis. The
socket is accepted first: a close before that reaches the client as HTTP 403, without its code.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.models import User
from accounts.sockets import user_of
from asynccoder.lib import logs
from asynccoder.lib.places import Places
from tasks import messages
from tasks.following import (
    AUTH_LATE,
    NORMAL,
    NOT_FOUND,
    NOT_SIGNED_IN,
    NOT_YOURS,
    TOO_MANY,
    Closed,
    Gone,
    follow,
)
from tasks.live import Encoded
from tasks.messages import shown_status
from tasks.models import WORK, Task

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

AUTH_SECONDS = 10.0
BEAT_SECONDS = 15.0
MESSAGE_CHARACTERS = 8_192
BIG = 2**62

places = Places()
"""The sockets of this process; None counts those whose first message is waited for."""


@dataclass(slots=True)
class Socket:
    """One accepted socket and what its address asked for; a Line of ``tasks.following``."""

    scope: Scope
    receive: Receive
    send: Send
    after: int | None
    token: str
    beat_seconds: float
    kind: str
    """"task", "build" or "analysis"; the last two have a word of their own for waiting."""

    @classmethod
    def of(cls, scope: Scope, receive: Receive, send: Send) -> Socket:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        after = query.get("after", [""])[0]
        return cls(
            scope, receive, send,
            min(int(after[:19]), BIG) if after.isascii() and after.isdigit() else None,
            query.get("token", [""])[0], BEAT_SECONDS if "heartbeat" in query else 0,
            scope.get("url_route", {}).get("kwargs", {}).get("kind", "task"),
        )  # fmt: skip

    @property
    def needs(self) -> str:
        """The scope that an access key must have, as for the routes of the same kind."""
        return f"{self.kind}:read"

    async def tell(self, event: Encoded) -> None:
        await self.say(messages.in_words_of_work(event.text) if self.kind in WORK else event.text)

    async def beat(self, place: int) -> None:
        """Tell a page that the line lives, and up to which event it has been told everything."""
        await self.say(messages.encode({"type": "ping", "sequence": place}))

    async def say(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})

    async def hear(self) -> Any:
        """Return the client's next message, read as JSON; anything else is None. Raises Gone."""
        message = await self.receive()
        if message["type"] == "websocket.disconnect":
            raise Gone
        text = message.get("text") or ""
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text[:MESSAGE_CHARACTERS])
        return None


_user: Callable[[Scope, str, str], Awaitable[User | None]] = database_sync_to_async(user_of)


async def _signed_in(socket: Socket) -> User:
    """Return who it is: by query, cookie, or a first message within AUTH_SECONDS."""
    user = await _user(socket.scope, socket.token, socket.needs)
    if user is None and not socket.token:
        message = await _first_message(socket)
        if isinstance(message, dict) and message.get("type") == "auth":
            socket.token = str(message.get("token") or "")
        user = await _user(socket.scope, socket.token, socket.needs) if socket.token else None
    if user is None:
        raise Closed(NOT_SIGNED_IN)
    return user


async def _first_message(socket: Socket) -> Any:
    """Wait for it, with the few who may: whoever brings a credential needs no place of theirs."""
    try:
        with places.taken(None, settings.SOCKETS_UNKNOWN, Closed(TOO_MANY)):
            async with asyncio.timeout(AUTH_SECONDS):
                return await socket.hear()
    except TimeoutError:
        raise Closed(AUTH_LATE) from None


Serve = Callable[[Socket, User], Coroutine[Any, Any, None]]


async def _run(scope: Scope, receive: Receive, send: Send, serve: Serve) -> None:
    """Accept, find out who it is, serve, and close with a code that says why."""
    await receive()
    await send({"type": "websocket.accept"})
    socket = Socket.of(scope, receive, send)
    try:
        user = await _signed_in(socket)
        logs.user_id.set(str(user.pk))
        with places.taken(user.pk, settings.SOCKETS_PER_USER, Closed(TOO_MANY)):
            await serve(socket, user)
    except Gone:
        return
    except Closed as closed:
        await send({"type": "websocket.close", "code": closed.code})


async def feed(scope: Scope, receive: Receive, send: Send) -> None:
    """``/ws``: everything that concerns the user, numbered over the whole account."""
    await _run(scope, receive, send, _serve_feed)


async def _serve_feed(socket: Socket, user: User) -> None:
    async def may_listen() -> bool:
        return await _user(socket.scope, socket.token, socket.needs) is not None

    await follow(socket, messages.user_topic(user.pk), socket.after, may_listen)


async def task(scope: Scope, receive: Receive, send: Send) -> None:
    """``/api/ws/<kind>/<id>``: one task, from its first event or behind ``?after=N``."""
    await _run(scope, receive, send, _serve_task)


async def _serve_task(socket: Socket, user: User) -> None:
    names = socket.scope["url_route"]["kwargs"]
    found: Task = await database_sync_to_async(_find)(user, names["kind"], names["task_id"])

    async def may_listen() -> bool:
        now = await _user(socket.scope, socket.token, socket.needs)
        return now is not None and bool(await database_sync_to_async(_may_see)(now, found.pk))

    socket.after = socket.after or 0
    await socket.say(messages.encode(_connected(names["kind"], found, socket.after)))
    if found.is_finished and socket.after >= found.event_sequence:
        raise Closed(NORMAL)
    await follow(socket, messages.task_topic(found.pk), socket.after, may_listen)


def _connected(kind: str, task: Task, after: int) -> dict[str, Any]:
    """Return the greeting. Its ``sequence`` is where the client stands, not what there is."""
    return {
        "type": "connected",
        "task_id": str(task.pk),
        "message": f"Connected to {kind} updates",
        "status": shown_status(task.status) if kind in WORK else task.status,
        "progress": task.progress,
        "sequence": after,
        "newest": task.event_sequence,
        "timestamp": messages.stamp(timezone.now()),
    }


def _find(user: User, kind: str, task_id: str) -> Task:
    """Return the task, or raise Closed: not there, or (builds and analyses) not yours."""
    tasks = Task.objects.all()
    if kind in WORK:
        tasks = tasks.filter(type__in=WORK[kind])
    try:
        found: Task | None = tasks.visible_to(user).filter(pk=task_id).first()
        # S2 says 403 of a build or analysis that exists and is another's; a task does not exist.
        is_anothers = found is None and kind != "task" and tasks.filter(pk=task_id).exists()
    except (ValidationError, ValueError):
        raise Closed(NOT_FOUND) from None
    if found is None:
        raise Closed(NOT_YOURS if is_anothers else NOT_FOUND)
    return found


def _may_see(user: User, task_id: uuid.UUID) -> bool:
    return bool(Task.objects.visible_to(user).filter(pk=task_id).exists())
