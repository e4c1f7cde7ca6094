"""What the host does with a hostile first process."""

from __future__ import annotations

import json
import marshal
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.sandbox import execution
from tasks.sandbox.base import Command, Limits, SandboxLost
from tasks.sandbox.channel import LARGEST_REPLY, Channel, sealed_memory, sized_memory
from tasks.sandbox.execution import Execution, Surroundings
from tasks.sandbox.watch import Watch


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    outer, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with outer, inner:
        yield Channel(outer), inner


@pytest.mark.parametrize(
    "message",
    [
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"id": 2}',
        b'{"id": "1"}',
        b"[" * LARGEST_REPLY,
        json.dumps({"id": 1, "padding": "x" * LARGEST_REPLY}).encode(),
    ],
)
def test_a_wrong_reply_ends_the_sandbox(
    ends: tuple[Channel, socket.socket], message: bytes
) -> None:
    channel, inner = ends
    channel.request("read", {})
    inner.send(message)
    with pytest.raises(SandboxLost):
        channel.receive()


def test_the_right_reply_is_taken(ends: tuple[Channel, socket.socket]) -> None:
    channel, inner = ends
    channel.request("read", {})
    inner.send(b'{"id": 1, "size": 3}')
    assert channel.receive() == {"id": 1, "size": 3}


def test_a_closed_end_is_a_lost_sandbox(ends: tuple[Channel, socket.socket]) -> None:
    channel, inner = ends
    inner.close()
    with pytest.raises(SandboxLost):
        channel.receive()
    with pytest.raises(SandboxLost):
        channel.request("read", {})


def ask_for_ever(channel: Channel) -> None:
    while True:
        channel.request("read", {})


def test_a_first_process_that_never_listens_does_not_block_the_host(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, _inner = ends
    with pytest.raises(SandboxLost):
        ask_for_ever(channel)


def test_descriptors_that_come_with_a_reply_are_dropped(
    ends: tuple[Channel, socket.socket],
) -> None:
    channel, inner = ends
    channel.request("read", {})
    socket.send_fds(inner, [b'{"id": 1}'], [0, 1, 2])
    before = set(Path("/proc/self/fd").iterdir())
    channel.receive()
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("message", [b"{}", b"[]", b"", b'{"ready": 1}', b"x" * 5000])
def test_a_start_that_is_not_ready_is_refused(
    ends: tuple[Channel, socket.socket], message: bytes
) -> None:
    channel, inner = ends
    if message:
        inner.send(message)
    else:
        inner.close()
    with pytest.raises(SandboxLost):
        channel.first_sender()


def test_the_kernel_names_the_sender(ends: tuple[Channel, socket.socket]) -> None:
    channel, inner = ends
    inner.send(json.dumps({"ready": True, "pid": 1}).encode())
    assert channel.first_sender() == os.getpid()


def test_memory_lent_to_a_sandbox_cannot_grow() -> None:
    with sized_memory(100) as fd:
        assert os.pwrite(fd, b"x" * 100, 0) == 100
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 100)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 50)


def test_a_request_cannot_be_changed_on_the_way() -> None:
    with sealed_memory(b"request") as fd, pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)


# --- One command, with a first process that lies ------------------------------------------------


@pytest.fixture
def around(ends: tuple[Channel, socket.socket]) -> Iterator[Surroundings]:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    watch = Watch(os.getpid(), Limits(memory=2**50), None)
    yield Surroundings(ends[0], watch, Limits(output=1000, memory=2**50), reader)
    for fd in (reader, writer):
        os.close(fd)
    watch.close()


def descriptors_of(inner: socket.socket) -> list[int]:
    _, fds, _, _ = socket.recv_fds(inner, 100, 8)
    return fds


@pytest.mark.parametrize(
    "answer",
    [{"exit": "0"}, {"exit": -1}, {"exit": 256}, {"exit": None}, {"size": 0}, {"exit": 1e3}],
)
def test_a_senseless_exit_code_ends_the_sandbox(
    ends: tuple[Channel, socket.socket], around: Surroundings, answer: dict[str, Any]
) -> None:
    ends[1].send(json.dumps({"id": 1, **answer}).encode())
    with pytest.raises(SandboxLost):
        Execution(around, Command(["true"]), None).run({})


def asked_of(inner: socket.socket) -> str:
    """Return what the next request asks the first process to do."""
    request, *others = descriptors_of(inner)
    try:
        return str(marshal.loads(os.pread(request, 10**6, 0))["do"])
    finally:
        for fd in (request, *others):
            os.close(fd)


def test_a_first_process_that_ignores_the_deadline_is_asked_and_loses_its_sandbox(
    ends: tuple[Channel, socket.socket], around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "GRACE", 0.2)
    with pytest.raises(SandboxLost, match="in time"):
        Execution(around, Command(["true"], seconds=0.2), None).run({})
    assert [asked_of(ends[1]) for _ in range(2)] == ["run", "kill"]
    with pytest.raises(BlockingIOError):
        ends[1].recv(1, socket.MSG_DONTWAIT)


def test_a_first_process_that_keeps_the_output_open_does_not_hold_the_host(
    ends: tuple[Channel, socket.socket], around: Surroundings
) -> None:
    ends[1].send(b'{"id": 1, "exit": 0}')
    held: list[int] = []
    keeper = threading.Thread(target=lambda: held.extend(descriptors_of(ends[1])))
    keeper.start()
    result = Execution(around, Command(["true"], seconds=3600), None).run({})
    keeper.join()
    assert (result.exit_code, result.stopped) == (0, "")
    assert len(held) == 4
    for fd in held:
        os.close(fd)
