"""Servers and clients on loopback for tests of the way out of a sandbox."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from asynccoder.lib.hosts import parse_list
from asynccoder.lib.outbound import UrlRefused, check_url
from tasks.sandbox.proxy import Policy, Proxy, ProxyLimits, Refused, Rules, Verdict

PUBLIC = "140.82.112.3"
Resolve = Callable[[str, int], Sequence[str]]


class Server:
    """A server on loopback that says every piece it hears back in capitals, and counts visits."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.visits = 0
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        for end in (self.socket, *self._clients):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self.socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                self.visits += 1
                self._clients.append(client)
                self._threads.append(threading.Thread(target=self._echo, args=(client,)))
                self._threads[-1].start()

    def _echo(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while chunk := client.recv(65536):
                client.sendall(chunk.upper())


def answers(*addresses: str) -> Resolve:
    """Return a name server that gives one of these at a time, the last one for ever."""
    left = list(addresses)
    return lambda _host, _port: [left.pop(0) if len(left) > 1 else left[0]]


def policy(resolve: Resolve, *, allowed: Sequence[str] = ()) -> Policy:
    """Return the platform's own policy over a name server that a test stands for."""

    def address(host: str, port: int) -> str:
        try:
            return check_url(f"https://{host}:{port}", allowed=allowed, resolve=resolve).address
        except UrlRefused as error:
            raise Refused(str(error)) from error

    return address


def unfiltered(host: str, port: int) -> str:
    """The negative control: every name leads to loopback and nobody objects."""
    return "127.0.0.1"


class Recorder:
    """What a proxy reported."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def __call__(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    @property
    def told(self) -> list[tuple[str, bool]]:
        return [(verdict.host, verdict.is_allowed) for verdict in self.verdicts]


@contextlib.contextmanager
def serving(
    folder: Path,
    entries: Sequence[str],
    decide: Policy,
    *,
    record: Recorder | None = None,
    limits: ProxyLimits | None = None,
) -> Iterator[Proxy]:
    rules = Rules(parse_list(entries), decide)
    with Proxy(folder / "proxy", rules, record or Recorder(), limits=limits) as proxy:
        yield proxy


def connected(proxy: Proxy) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(proxy.path))
    return client


def ask(proxy: Proxy, request: bytes, body: bytes = b"") -> bytes:
    """Send a request, and the body once it is let through; return all that comes back."""
    answer = b""
    with connected(proxy) as client, contextlib.suppress(ConnectionError):
        client.sendall(request)
        answer = client.recv(4096)
        if answer.startswith(b"HTTP/1.1 200 "):
            client.sendall(body)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        while chunk := client.recv(65536):
            answer += chunk
    return answer


def connect_line(host: str, port: int) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
