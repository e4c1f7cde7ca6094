"""Calls of a run follow each other on one connection, whatever a server does after its answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from aimodels.providers import connect, whole_stream
from aimodels.providers.base import Provider, Request
from asynccoder.tests.processes import wait_for

CHUNKS = [
    {"choices": [{"index": 0, "delta": {"content": "All is well."}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}},
]
BODY = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@dataclass
class Line:
    """A server that answers each request by a stream, and then sends what it is told to."""

    listener: socket.socket
    rest: bytes
    connections: int = 0
    cut: threading.Event = field(default_factory=threading.Event)

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client: socket.socket) -> None:
        with client:
            while _request(client):
                body = BODY.encode()
                client.sendall(HEAD + b"%x\r\n%s\r\n" % (len(body), body))
                client.sendall(self.rest)
                if self.rest != END:
                    client.recv(1)
                    self.cut.set()
                    return


def _request(client: socket.socket) -> bool:
    """Read a whole request; False when there is none any more."""
    read = b""
    while b"\r\n\r\n" not in read:
        piece = client.recv(65536)
        if not piece:
            return False
        read += piece
    head, _, body = read.partition(b"\r\n\r\n")
    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < size:
        body += client.recv(65536)
    return True


@contextmanager
def serving(rest: bytes) -> Iterator[tuple[Line, Provider]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(listener, rest)
        threading.Thread(target=line.serve, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        provider = connect(
            "openai", base_url=url, api_key="sk-x", model="m", timeout=60, max_retries=0
        )
        try:
            yield line, provider
        finally:
            provider.close()
            listener.shutdown(socket.SHUT_RDWR)


def ask(provider: Provider) -> str:
    return provider.complete(Request(("Help.",), (provider.user_turn("Hello."),), 100)).text


def test_calls_follow_each_other_on_one_connection() -> None:
    with serving(END) as (line, provider):
        assert [ask(provider) for _ in range(3)] == ["All is well."] * 3
        assert line.connections == 1


@pytest.mark.parametrize("rest", [b"", b"5\r\n: so \r\n"])
def test_server_that_never_ends_its_answer_is_cut_off(
    rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_stream, "REST_SECONDS", 0.1)
    with serving(rest) as (line, provider):
        assert ask(provider) == "All is well."
        wait_for(line.cut.is_set, what="the line is cut")
        assert ask(provider) == "All is well."
        assert line.connections == 2


def test_answer_with_rubbish_behind_it_is_whole() -> None:
    with serving(b"no chunk\r\n") as (line, provider):
        assert [ask(provider), ask(provider)] == ["All is well."] * 2
        assert line.connections == 2
