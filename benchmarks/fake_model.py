"""A model server that costs almost nothing: it never reads a request's body, and stamps its bytes.

``python -m benchmarks.fake_model`` is one asyncio process. It is told on its standard input, a
JSON document a line, what to play and asked for its stamps; ``FakeModel`` is that end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
# The tokens stay few, so that no engine shortens its history: what grows is what is measured.
USAGE = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}


@dataclass(frozen=True, slots=True)
class Script:
    """What is played: so many tool calls, then the end of the run.

    ``{number}`` in a command is the step's; ``status`` is what ours finishes with. Before the reply that ends the run the server waits
    for ``FakeModel.go_on`` where ``is_held``: whatever runs can be looked at meanwhile.
    """

    steps: int
    command: str = "cat obs.txt # {number}"
    status: str = "no_change_needed"
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class Stamp:
    """One request: seconds of the machine's monotonic clock, and the wall clock of its begin."""

    begin: float
    whole: float
    replied: float
    wall: float
    size: int


@dataclass
class FakeModel:
    """The benchmark's end of the server."""

    process: subprocess.Popen[str]
    port: int

    def url(self, dialect: str) -> str:
        """Return the base URL on which completions are streamed ("stream") or not ("plain")."""
        return f"http://127.0.0.1:{self.port}/{dialect}/v1"

    def play(self, script: Script) -> None:
        self._ask({"play": asdict(script)})

    def wait_for(self, requests: int) -> list[Stamp]:
        """Wait until so many requests are whole and return the stamps of those replied to."""
        return [Stamp(*values) for values in self._ask({"wait_for": requests})]

    def stamps(self) -> list[Stamp]:
        return self.wait_for(0)

    def go_on(self) -> None:
        self._ask({"go_on": True})

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(question)}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def running() -> Iterator[FakeModel]:
    """Run a server on a free port of loopback while the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fake_model"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield FakeModel(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()


def overheads(stamps: list[Stamp], steps: int) -> list[float]:
    """Return each step's milliseconds: from a reply's last byte to the whole of the next request."""
    pairs = itertools.pairwise(stamps)
    return [1000 * (after.whole - before.replied) for before, after in pairs][:steps]


# --- the server --------------------------------------------------------------------------------


@dataclass
class Stage:
    """What is being played, and what came of it."""

    script: Script = field(default_factory=lambda: Script(0))
    wholes: int = 0
    stamps: list[Stamp] = field(default_factory=list)
    went_on: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    def turn(self, number: int, *, is_stream: bool) -> tuple[str, str, dict[str, Any]]:
        """Return the text, the tool and its arguments of a turn."""
        if number < self.script.steps:
            command = self.script.command.replace("{number}", str(number))
            return f"Step {number}: I look at it.", "bash", {"command": command}
        if is_stream:
            said = dict.fromkeys(("summary", "evidence", "cause", "how_to_try"), "All is done.")
            return "", "finish", {"status": self.script.status, **said}
        return "The end.", "bash", {"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}


class Connection(asyncio.Protocol):
    """One kept connection; requests come one after another."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._forget()

    def _forget(self) -> None:
        self.head = b""
        self.left = -1
        self.size = 0
        self.begin = self.wall = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.begin:
            self.begin, self.wall = time.monotonic(), time.time()
        if self.left < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            found = LENGTH.search(self.head, 0, end)
            self.size = int(found[1]) if found else 0
            self.left = self.size - (len(self.head) - end - 4)
        else:
            self.left -= len(data)
        if self.left <= 0:
            self._answer(time.monotonic())

    def _answer(self, whole: float) -> None:
        stage, number = self.stage, self.stage.wholes
        is_stream = self.head.startswith(b"POST /stream/")
        stage.wholes += 1
        reply = _reply(*stage.turn(number, is_stream=is_stream), number, is_stream=is_stream)
        begin, wall, size = self.begin, self.wall, self.size
        self._forget()

        def send() -> None:
            self.transport.write(reply)
            stage.stamps.append(Stamp(begin, whole, time.monotonic(), wall, size))

        if stage.script.is_held and number == stage.script.steps and not stage.went_on.is_set():
            _later(_when_released(stage, send))
        else:
            send()
        _later(_tell(stage))


def _reply(
    text: str, tool: str, arguments: dict[str, Any], number: int, *, is_stream: bool
) -> bytes:
    call: dict[str, Any] = {"id": f"call_{number}", "type": "function"}
    function = {"name": tool, "arguments": json.dumps(arguments)}
    if not is_stream:
        message = {
            "role": "assistant",
            "content": text,
            "tool_calls": [{**call, "function": function}],
        }
        choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
        body = json.dumps(_completion("chat.completion", [choice], USAGE)).encode()
        kind = b"application/json"
    else:
        opened = {"name": tool, "arguments": ""}
        first: dict[str, Any] = {"index": 0, **call, "function": opened}
        piece: dict[str, Any] = {"index": 0, "function": {"arguments": function["arguments"]}}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": text[start : start + 12]} for start in range(0, len(text), 12)]
        deltas += [{"tool_calls": [first]}, {"tool_calls": [piece]}]
        choices = [[_choice(delta)] for delta in deltas]
        choices.append([_choice({}, "tool_calls")])
        chunks = [_completion("chat.completion.chunk", chosen) for chosen in choices]
        chunks.append(_completion("chat.completion.chunk", [], USAGE))
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        body = "".join([*lines, "data: [DONE]\n\n"]).encode()
        kind = b"text/event-stream"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "finish_reason": finish, "delta": delta}


def _completion(
    kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None = None
) -> dict[str, Any]:
    known: dict[str, Any] = {
        "id": "c1",
        "object": kind,
        "created": 1,
        "model": "scripted",
        "choices": choices,
    }
    return known | ({"usage": usage} if usage else {})


_tasks: set[asyncio.Task[None]] = set()


def _later(work: Any) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _when_released(stage: Stage, send: Any) -> None:
    await stage.went_on.wait()
    send()


async def _tell(stage: Stage) -> None:
    async with stage.moved:
        stage.moved.notify_all()


async def _obey(stage: Stage, question: dict[str, Any]) -> Any:
    if "play" in question:
        stage.script, stage.wholes, stage.stamps = Script(**question["play"]), 0, []
        stage.went_on.clear()
        return True
    if "go_on" in question:
        stage.went_on.set()
        return True
    async with stage.moved:
        await stage.moved.wait_for(lambda: stage.wholes >= question["wait_for"])
    return [list(asdict(stamp).values()) for stamp in stage.stamps]


async def serve() -> None:
    stage = Stage()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stage), "127.0.0.1", 0)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await reader.readline():
        print(json.dumps(await _obey(stage, json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
