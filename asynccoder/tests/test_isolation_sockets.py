"""Who may listen: every address of a socket, opened by everybody.

Rows are those of ``test_isolation``: 101 is a socket that is open, 404 one that is closed with 4404.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from accounts import tokens
from asynccoder import asgi
from asynccoder.tests import isolation
from asynccoder.tests.github_server import FakeGithub
from asynccoder.tests.isolation import NOWHERE, PEOPLE, PRIVATE, Row, World
from tasks.tests.test_sockets import (  # noqa: F401 - a fixture for every test
    _no_connection_is_left,
    connected,
)

pytestmark = pytest.mark.django_db(transaction=True)
OPEN = 101
LISTEN = "401 404 101 101 101 101 101"
WORK = "401 403 101 101 101 101 101"
"""S2 says 403 of a build or analysis that exists and is another's."""

ROWS = [
    Row("GET /ws", gets="401 101 101 101 101 101 101"),
    Row("GET /api/ws/task/{id}", "waiting", LISTEN),
    Row("GET /api/ws/build/{id}", "build", WORK),
    Row("GET /api/ws/analysis/{id}", "analysis", WORK),
    Row("GET /api/ws/build/{id}", "waiting", " ".join(["401", *["404"] * 6])),
]
REFUSED = Row("GET /api/ws/nothing", gets=" ".join(["404"] * 7))


@pytest.fixture
def world(tmp_path: Path, github: FakeGithub) -> World:
    return isolation.build(tmp_path, github)


def addresses() -> Iterator[str]:
    """Yield the address of every socket; a pattern of another form is yielded as it is."""
    for pattern in asgi.ROUTES:
        text = pattern.removeprefix("^").removesuffix("$").removesuffix("/?")
        text = text.replace("(?P<task_id>[^/]+)", "{id}")
        kinds = re.search(r"\(\?P<kind>([a-z|]+)\)", text)
        for kind in kinds[1].split("|") if kinds else [""]:
            yield "/" + (text.replace(kinds[0], kind) if kinds else text)


def test_every_address_has_a_row() -> None:
    # The last one is whatever has no address.
    assert {row.path for row in ROWS} | {"/"} == set(addresses())


async def opened(world: World, row: Row, person: str, side: str) -> tuple[int, str]:
    """Return the row's word for what a socket was answered, and its first message."""
    token = "wrong"
    if person != "anonymous":
        token = await sync_to_async(lambda: tokens.begin(world.users[person]).access)()
    path = row.path.format(id=world.ids.get(side, ""))
    async with connected(f"{path}?after=0&token={token}") as socket:
        message: dict[str, Any] = await socket.receive_output(5)
    if message["type"] == "websocket.close":
        return int(message["code"]) - 4000, ""
    return OPEN, message["text"]


@pytest.mark.parametrize("row", [*ROWS, REFUSED], ids=lambda row: f"{row.path} {row.thing}")
async def test_everybody_listens_where_they_may(row: Row, world: World) -> None:
    await sync_to_async(world.make)(row.thing, row.sides)
    for person in PEOPLE:
        for side in (*row.sides, NOWHERE) if row.names_it else (PRIVATE,):
            code, message = await opened(world, row, person, side)
            assert code == row.expected(person, side), (person, side)
            if code == OPEN and row.names_it:
                assert json.loads(message)["task_id"] == world.ids[side]
            elif code == OPEN:
                # The feed begins with the credits that everybody was given.
                assert json.loads(message)["data"]["userId"] == str(world.users[person].pk)
