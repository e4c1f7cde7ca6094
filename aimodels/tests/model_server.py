"""A model server on loopback that speaks OpenAI's and Anthropic's wire formats from a script.

A script is a list of turns (or a callable that returns one). The turn that answers is chosen by
the number of assistant turns in the request, so a resumed run is told the same. A turn is
``{"text", "tool_calls": [{"name", "arguments"}], "usage", "stop", "faults": [fault, ...]}``; its
faults are used up first, one a request; a ``fault`` is played whenever the script returns it. A
fault is one of

    {"status": 429, "retry_after": 0.01, "message": "...", "code": "...", "type": "...",
     "location": URL}
    {"hang": seconds}          nothing is sent for so long, then the connection is closed
    {"reset_after": bytes}     the connection is reset after so many bytes of the stream
    {"truncate_after": bytes}  the stream ends cleanly after so many bytes
    {"corrupt": true}          one chunk is not JSON
    {"error_event": text}      the stream reports an overload half-way
    {"no_finish": true}        the stream ends without its finish reason
    {"slow": seconds}          pause before every chunk (the answer is right)

A turn may have a function ``passing``: it is called with "half" and "end" when half of the answer
is sent and when all but its last event is, and may take its time.

Like the real ones it refuses a history in which a tool call is left unanswered, more than four
cache marks, and an unknown key. ``python -m aimodels.tests.model_server --port P --script F``
serves a JSON list of turns until it is ended.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aimodels.tests.wire_formats import FORMATS, WireFormat

Turn = dict[str, Any]
Script = Sequence[Turn] | Callable[[dict[str, Any]], Turn]
LAST: Turn = {"text": "The script is over."}


class ModelServer(ThreadingHTTPServer):
    """Serves a script. ``requests`` logs every request: path, headers without keys, body, time."""

    daemon_threads = True

    def __init__(self, script: Script, *, port: int = 0, key: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script = script
        self.key = key
        self.requests: list[dict[str, Any]] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._faults_used: dict[int, int] = {}
        self._prompts: list[str] = []

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def openai_url(self) -> str:
        return f"{self.root}/v1"

    def base_url(self, kind: str) -> str:
        return self.root if kind == "anthropic" else self.openai_url

    def turn_for(self, body: dict[str, Any], answered: int) -> Turn:
        if callable(self.script):
            return self.script(body)
        return self.script[answered] if answered < len(self.script) else LAST

    def next_fault(self, turn: Turn, answered: int) -> dict[str, Any] | None:
        if "fault" in turn:
            found: dict[str, Any] = turn["fault"]
            return found
        with self._lock:
            used = self._faults_used.get(answered, 0)
            self._faults_used[answered] = used + 1
        faults = turn.get("faults", [])
        return faults[used] if used < len(faults) else None

    def cached_share(self, prompt: str) -> int:
        """Return the bytes that this prompt shares with the start of an earlier one."""
        with self._lock:
            best = max((_common_prefix(prompt, known) for known in self._prompts), default=0)
            self._prompts.append(prompt)
        return best

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are part of the tests."""

    def bodies(self) -> list[dict[str, Any]]:
        return [request["body"] for request in self.requests if request["method"] == "POST"]


def _common_prefix(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        self._log({})
        if self.path.rstrip("/").endswith("/models"):
            self._answer(200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})
        else:
            self._answer(404, {"error": {"message": f"no route {self.path}"}})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wire = FORMATS.get(self.path)
        try:
            body = json.loads(raw)
        except ValueError:
            return self._answer(400, {"error": {"message": "The body is not JSON."}})
        self._log(body)
        if wire is None:
            return self._answer(404, {"error": {"message": f"no route {self.path}"}})
        refusal = self._refusal(wire, body)
        if refusal is not None:
            return self._answer(refusal[0], wire.error(refusal[0], {"message": refusal[1]}))
        return self._play(wire, body)

    def _log(self, body: dict[str, Any]) -> None:
        secret = ("authorization", "x-api-key")
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in secret
        }
        self.server.requests.append(
            {
                "method": self.command,
                "path": self.path,
                "headers": headers,
                "body": body,
                "time": time.time(),
            }
        )

    def _refusal(self, wire: WireFormat, body: dict[str, Any]) -> tuple[int, str] | None:
        sent = self.headers.get("Authorization", "") + self.headers.get("X-Api-Key", "")
        if self.server.key and self.server.key not in sent:
            return 401, f"Incorrect API key provided: {sent}"
        problem = wire.problem(body)
        return (400, problem) if problem else None

    def _play(self, wire: WireFormat, body: dict[str, Any]) -> None:
        answered = sum(1 for message in body["messages"] if message["role"] == "assistant")
        turn = self.server.turn_for(body, answered)
        fault = self.server.next_fault(turn, answered) or {}
        if "status" in fault:
            names = {"retry_after": "Retry-After", "location": "Location"}
            headers = {names[name]: str(fault[name]) for name in names if name in fault}
            return self._answer(fault["status"], wire.error(fault["status"], fault), headers)
        if "hang" in fault:
            self.server.stopping.wait(fault["hang"])
            self.close_connection = True
            return None
        prompt = wire.prompt(body)
        is_told = "cached" in turn.get("usage", {})
        cached = 0 if is_told else self.server.cached_share(prompt)
        events = wire.events(body, turn, (len(prompt.encode()), cached))
        if "error_event" in fault:
            reported = {"type": "overloaded_error", "message": fault["error_event"]}
            event = f"event: error\ndata: {json.dumps(wire.error(529, reported))}\n\n"
            events = [*events[: len(events) // 2], event.encode()]
        return self._stream(events, fault, turn.get("passing"))

    def _stream(
        self, events: list[bytes], fault: dict[str, Any], passing: Callable[[str], None] | None
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if fault.get("corrupt"):
            events.insert(len(events) // 2, b"event: message_delta\ndata: {not json\n\n")
        if fault.get("no_finish"):
            events = [event for event in events if b'finish_reason":"' not in event]
            events = [event for event in events if b"message_delta" not in event]
        if "reset_after" in fault or "truncate_after" in fault:
            return self._cut(b"".join(events), fault)
        places = {len(events) // 2: "half", len(events) - 1: "end"} if passing else {}
        for number, event in enumerate(events):
            if "slow" in fault:
                time.sleep(fault["slow"])
            if passing and number in places:
                passing(places[number])
            self.wfile.write(event)
            self.wfile.flush()
        return None

    def _cut(self, stream: bytes, fault: dict[str, Any]) -> None:
        self.wfile.write(stream[: fault.get("reset_after", fault.get("truncate_after"))])
        self.wfile.flush()
        if "reset_after" in fault:
            time.sleep(0.05)
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def _answer(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serve(script: Script, *, key: str = "") -> Iterator[ModelServer]:
    """Run a server on a free port of loopback while the block lasts."""
    server = ModelServer(script, key=key)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--key", default="")
    options = parser.parse_args()
    server = ModelServer(json.loads(options.script.read_text()), port=options.port, key=options.key)
    server.serve_forever()


if __name__ == "__main__":
    main()
