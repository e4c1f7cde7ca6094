"""The host's end of the socket to a sandbox's init, whose answers are hostile until proven sane."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import marshal
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.sandbox.base import SandboxLost

LARGEST_REPLY = 4096
MARSHAL_VERSION = 2
"""Every Python reads it, whichever one runs the init."""
SEAL_SIZE = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
SEAL_ALL = SEAL_SIZE | fcntl.F_SEAL_WRITE
CREDENTIALS = struct.Struct("3i")


@contextlib.contextmanager
def sealed_memory(content: bytes) -> Iterator[int]:
    """Lend a memory file that holds ``content`` and that nobody can change any more."""
    fd = os.memfd_create("request", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEAL_ALL)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def sized_memory(size: int) -> Iterator[int]:
    """Lend an empty memory file that can be written up to ``size`` and never grow."""
    fd = os.memfd_create("answer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEAL_SIZE)
        yield fd
    finally:
        os.close(fd)


class Channel:
    """Requests out, bounded replies in; every fault of the other end is SandboxLost."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.settimeout(0)
        # The kernel then tells who really sent the first message.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._number = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def request(self, what: str, fields: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one request, whose reply is the next ``receive``."""
        self._number += 1
        self._send({"do": what, "id": self._number, **fields}, fds)

    def kill(self) -> None:
        """Ask for the end of the running command, whose reply then comes."""
        self._send({"do": "kill", "id": 0}, ())

    def receive(self) -> dict[str, Any]:
        """Return the reply that is waiting. Raises SandboxLost for anything but the right one."""
        reply = _parse(self._receive(LARGEST_REPLY + 1))
        if reply.get("id") != self._number:
            raise SandboxLost("The sandbox answered a question that was not asked.")
        return reply

    def first_sender(self) -> int:
        """Receive the "ready" message and return its sender's pid here, by the kernel's word."""
        try:
            message, ancillary, _, _ = self._socket.recvmsg(
                LARGEST_REPLY, socket.CMSG_SPACE(CREDENTIALS.size)
            )
        except OSError as error:
            raise SandboxLost("The sandbox did not start.") from error
        if _parse(message).get("ready") is not True:
            raise SandboxLost("The sandbox did not start properly.")
        for _level, kind, content in ancillary:
            if kind == socket.SCM_CREDENTIALS and len(content) >= CREDENTIALS.size:
                return int(CREDENTIALS.unpack_from(content)[0])
        raise SandboxLost("The kernel did not name the sandbox's first process.")

    def _send(self, document: dict[str, Any], fds: Sequence[int]) -> None:
        with sealed_memory(marshal.dumps(document, MARSHAL_VERSION)) as request:
            rights = array.array("i", [request, *fds])
            try:
                self._socket.sendmsg([b"request"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except OSError as error:
                raise SandboxLost("The sandbox no longer listens.") from error

    def _receive(self, size: int) -> bytes:
        try:
            # Plain recv: descriptors that came with the message are dropped by the kernel.
            return self._socket.recv(size)
        except OSError as error:
            raise SandboxLost("The sandbox is gone.") from error


def _parse(message: bytes) -> dict[str, Any]:
    if not message:
        raise SandboxLost("The sandbox is gone.")
    try:
        document = json.loads(message) if len(message) <= LARGEST_REPLY else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SandboxLost("The sandbox answered nonsense.")
    return document
