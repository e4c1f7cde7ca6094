"""The one way out of a sandbox: an HTTP CONNECT proxy on a UNIX socket, for listed hosts alone.

It runs in threads of the run's process, outside. Whoever speaks to it is hostile: a request is
compared as bytes with one form, the name is resolved once by the policy that is passed in, and
the connection goes to the very address that the policy has checked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from asynccoder.lib.hosts import Entry, is_domain
from tasks.sandbox.ownership import is_root, prepare_owned, sandbox_ids
from tasks.sandbox.relay import relay

SOCKET = "proxy.sock"
REQUEST = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):([0-9]{1,5}) HTTP/1\.[01]")
OTHER_METHOD = re.compile(rb"(?!CONNECT )[A-Z]{1,20} [!-~]+ HTTP/1\.[01]")
HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*")
END_OF_HEAD = b"\r\n\r\n"
REASONS = {400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway"}
END_SECONDS = 2.0
BACKLOG = 64

Policy = Callable[[str, int], str]
"""Resolve a host and return the checked IP address to connect to. Raises Refused."""


class Refused(Exception):
    """A connection is not made; the message is shown to the sandbox and to the task's owner."""

    def __init__(self, message: str, *, status: int = 403, host: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.host = host
        """The host that was asked for; empty where the request named none that is one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one request: nothing of its content."""

    host: str
    is_allowed: bool
    reason: str = ""

    def __str__(self) -> str:
        """Return a line for the task's log."""
        said = "let through" if self.is_allowed else f"refused. {self.reason}"
        return f"{self.host or 'An unreadable request'}: {said}"


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """Bounds of one proxy; sizes in bytes, times in seconds."""

    connections: int = 64
    """At one time; a further one waits until one of these ends."""
    total: int = 2 * 1024**3
    """Bytes both ways, over the proxy's whole life."""
    connection_seconds: float = 900.0
    idle_seconds: float = 120.0
    head: int = 8192
    head_seconds: float = 10.0
    connect_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may be reached: the listed names, at addresses that the policy agrees to."""

    entries: tuple[Entry, ...]
    policy: Policy

    def decide(self, request: bytes) -> tuple[str, str, int]:
        """Return the host, the address and the port that a request leads to. Raises Refused."""
        host, port = parse(request)
        if not any(entry.covers(host, port) for entry in self.entries):
            raise Refused("This host is not in the repository's network list.", host=host)
        try:
            address = self.policy(host, port)
            return host, str(ipaddress.ip_address(address)), port
        except Refused as refused:
            raise Refused(str(refused), status=refused.status, host=host) from refused
        except ValueError:
            raise Refused("The host has no address.", status=502, host=host) from None


def parse(request: bytes) -> tuple[str, int]:
    """Return the lower-case host and the port of a request's head. Raises Refused."""
    line, *headers = request.split(b"\r\n")
    found = REQUEST.fullmatch(line)
    if found is None and OTHER_METHOD.fullmatch(line):
        raise Refused("Only https through CONNECT is let through, no plain http.")
    if found is None or not all(HEADER.fullmatch(header) for header in headers):
        raise Refused("This is no request that a proxy can take.", status=400)
    host, port = found[1].decode("ascii").lower(), int(found[2])
    if not is_domain(host):
        raise Refused("Only names of hosts are let through, no IP addresses.")
    if not 1 <= port <= 65535:
        raise Refused("This is no port.", status=400)
    return host, port


class Proxy:
    """Serve one run. Enter it before the sandbox and leave it after."""

    def __init__(
        self,
        folder: Path,
        rules: Rules,
        on_verdict: Callable[[Verdict], None],
        *,
        limits: ProxyLimits | None = None,
    ) -> None:
        """Prepare to listen in ``folder``; ``on_verdict`` is called in the proxy's threads."""
        self.path = folder / SOCKET
        self._rules = rules
        self._report = on_verdict
        self._limits = limits or ProxyLimits()
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(self._limits.connections)
        self._open: dict[threading.Thread, list[socket.socket]] = {}
        self._bytes = 0
        self._is_closed = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        listen(self._listener, self.path)
        self._acceptor.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """End every connection; a thread that waits for the resolver ends as soon as it answers."""
        with self._lock:
            self._is_closed = True
            open_now = {thread: list(ends) for thread, ends in self._open.items()}
        for end in (self._listener, *(end for ends in open_now.values() for end in ends)):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + END_SECONDS
        for thread in (self._acceptor, *open_now):
            thread.join(max(0.0, deadline - time.monotonic()))
        self._listener.close()
        self.path.unlink(missing_ok=True)

    # --- Connections ----------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                # More than that wait in the listener's queue.
                self._slots.acquire()
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                with self._lock:
                    if self._is_closed:
                        client.close()
                        return
                    self._open[thread] = [client]
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        thread = threading.current_thread()
        try:
            with client:
                self._tunnel(client, thread)
        finally:
            with self._lock:
                del self._open[thread]
            self._slots.release()

    def _tunnel(self, client: socket.socket, thread: threading.Thread) -> None:
        until = time.monotonic() + self._limits.connection_seconds
        try:
            request, rest = self._read_head(client)
            host, address, port = self._rules.decide(request)
            server = self._connect(host, address, port)
        except Refused as refused:
            self._report(Verdict(refused.host, is_allowed=False, reason=str(refused)))
            _answer(client, refused)
            return
        except OSError:
            return
        with server:
            if not self._adopt(thread, server) or not self._count(len(rest)):
                return
            self._report(Verdict(host, is_allowed=True))
            with contextlib.suppress(OSError):
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                server.sendall(rest)
                idle = self._limits.idle_seconds
                relay(client, server, idle=idle, until=until, count=self._count)

    def _read_head(self, client: socket.socket) -> tuple[bytes, bytes]:
        """Return a request's head and what came after it. Raises Refused, OSError."""
        deadline = time.monotonic() + self._limits.head_seconds
        received = b""
        while END_OF_HEAD not in received:
            client.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = client.recv(self._limits.head + 1 - len(received))
            received += chunk
            if not chunk or len(received) > self._limits.head:
                raise Refused("The request is too long, or ends too early.", status=400)
        head, _, rest = received.partition(END_OF_HEAD)
        return head, rest

    def _connect(self, host: str, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = socket.socket(family, socket.SOCK_STREAM)
        server.settimeout(self._limits.connect_seconds)
        try:
            server.connect((address, port))
        except OSError:
            server.close()
            raise Refused("The host cannot be reached.", status=502, host=host) from None
        return server

    def _adopt(self, thread: threading.Thread, server: socket.socket) -> bool:
        """Let ``__exit__`` end this socket too; return False where it has come already."""
        with self._lock:
            self._open[thread].append(server)
            return not self._is_closed

    def _count(self, size: int) -> bool:
        """Add to the bytes that were let through, or refuse these."""
        with self._lock:
            if self._bytes + size > self._limits.total:
                return False
            self._bytes += size
            return True


def listen(listener: socket.socket, path: Path) -> None:
    """Bind and listen where the sandbox's user, and of others root alone, may connect."""
    prepare_owned(path.parent)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The path of a socket may hold 107 bytes, a folder's own much more.
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(0o600)
    if is_root():
        os.chown(path, *sandbox_ids())
    listener.listen(BACKLOG)


def _answer(client: socket.socket, refused: Refused) -> None:
    body = f"{refused}\n".encode()
    head = (
        f"HTTP/1.1 {refused.status} {REASONS[refused.status]}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        client.settimeout(END_SECONDS)
        client.sendall(head.encode() + body)
