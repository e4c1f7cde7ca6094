"""One command from its request to its result: output, deadline, limits and cancelling."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.sandbox.base import WORKSPACE, Command, CommandResult, Limits, SandboxLost
from tasks.sandbox.channel import Channel, sealed_memory
from tasks.sandbox.output import HeadAndTail
from tasks.sandbox.watch import Watch

GRACE = 5.0
"""Seconds that a sandbox gets to end a command before it is ended itself."""
CHUNK = 256 * 1024
LARGEST_PIPE = 1024**2


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The sandbox that a command runs in, as far as its execution must know."""

    channel: Channel
    watch: Watch
    limits: Limits
    cancelled: int
    """Descriptor that becomes readable when ``stop`` is called."""


class Execution:
    """Run one command; every way out of it leaves no process of the command behind."""

    def __init__(
        self,
        around: Surroundings,
        command: Command,
        on_output: Callable[[bytes], None] | None,
    ) -> None:
        self._around = around
        self._command = command
        self._on_output = on_output
        self._output = HeadAndTail(command.keep)
        self._errors = HeadAndTail(command.keep)
        self._selector = selectors.DefaultSelector()
        self._exit_code: int | None = None
        self._stopped = ""
        self._deadline = 0.0

    def run(self, env: dict[str, str]) -> CommandResult:
        """Return how the command ended. Raises SandboxLost, and what ``on_output`` raises."""
        began = time.monotonic()
        with self._selector, contextlib.ExitStack() as stack:
            readers = self._start(stack, env)
            self._deadline = began + self._command.seconds
            self._around.watch.start()
            try:
                self._follow()
                self._drain(readers)
            except SandboxLost:
                raise
            except BaseException:
                self._abandon()
                raise
        return CommandResult(
            exit_code=self._exit_code if self._exit_code is not None else -1,
            output=self._output.value(),
            errors=self._errors.value(),
            total_bytes=self._total(),
            seconds=time.monotonic() - began,
            stopped=self._stopped or self._watched(self._around.watch.finish),
        )

    def _start(self, stack: contextlib.ExitStack, env: dict[str, str]) -> list[int]:
        """Send the request and return the descriptors to read, which ``stack`` closes."""
        command, channel = self._command, self._around.channel
        # The init's copies of the write ends must be the only ones once this returns.
        with contextlib.ExitStack() as ends, _standard_input(command.stdin) as given:
            output, output_end = _pipe(stack, ends)
            errors, errors_end = _pipe(stack, ends) if command.errors_apart else (-1, output_end)
            fields = {"argv": list(command.argv), "env": env, "cwd": inside(command.cwd)}
            channel.request("run", fields, (given, output_end, errors_end))
        self._selector.register(output, selectors.EVENT_READ, self._read_output)
        if command.errors_apart:
            self._selector.register(errors, selectors.EVENT_READ, self._read_errors)
        self._selector.register(channel, selectors.EVENT_READ, self._read_reply)
        self._selector.register(self._around.cancelled, selectors.EVENT_READ, self._cancel)
        return [output, errors] if command.errors_apart else [output]

    def _follow(self) -> None:
        """Serve the command until the init has said that it is over."""
        while self._exit_code is None:
            for key, _ in self._selector.select(self._patience()):
                key.data(key.fd)
            if not self._stopped:
                self._enforce()
            elif self._exit_code is None and time.monotonic() > self._deadline:
                raise SandboxLost("The sandbox did not end a command in time.")

    def _patience(self) -> float:
        left = max(0.0, self._deadline - time.monotonic())
        return left if self._stopped else min(left, self._around.watch.wait())

    def _enforce(self) -> None:
        if self._exit_code is not None:
            return
        allowed = self._command.output
        if self._total() > (self._around.limits.output if allowed is None else allowed):
            self._end("output")
        elif time.monotonic() >= self._deadline:
            self._end("timeout")
        elif reason := self._watched(self._around.watch.look):
            self._end(reason)

    def _watched(self, look: Callable[[], str]) -> str:
        try:
            return look()
        except OSError as error:
            # Its processes or its disk cannot be seen: unwatched, nothing may run.
            raise SandboxLost("The sandbox cannot be watched any more.") from error

    def _end(self, reason: str) -> None:
        self._stopped = reason
        self._deadline = time.monotonic() + GRACE
        self._around.channel.kill()

    def _abandon(self) -> None:
        """End a command whose caller wants no result any more; the sandbox stays usable."""
        if self._exit_code is None:
            self._on_output = None
            if not self._stopped:
                self._end("cancelled")
            self._follow()

    def _cancel(self, fd: int) -> None:
        os.read(fd, 4096)
        if not self._stopped and self._exit_code is None:
            self._end("cancelled")

    def _read_reply(self, _fd: int) -> None:
        code = self._around.channel.receive().get("exit")
        if not isinstance(code, int) or not 0 <= code <= 255:
            raise SandboxLost("The sandbox answered nonsense.")
        self._exit_code = code

    def _read_output(self, fd: int) -> int:
        return self._take(fd, self._output)

    def _read_errors(self, fd: int) -> int:
        return self._take(fd, self._errors)

    def _take(self, fd: int, kept: HeadAndTail) -> int:
        try:
            chunk = os.read(fd, CHUNK)
        except BlockingIOError:
            return 0
        if not chunk:
            self._selector.unregister(fd)
            return 0
        kept.add(chunk)
        if self._on_output is not None:
            self._on_output(chunk)
        return len(chunk)

    def _drain(self, readers: list[int]) -> None:
        """Take what is still in the pipes. Their end is not waited for: it may never come."""
        for fd, read in zip(readers, (self._read_output, self._read_errors), strict=False):
            left = LARGEST_PIPE
            while fd in self._selector.get_map() and left > 0 and (taken := read(fd)):
                left -= taken

    def _total(self) -> int:
        return self._output.total + self._errors.total


def _pipe(readers: contextlib.ExitStack, writers: contextlib.ExitStack) -> tuple[int, int]:
    """Return a pipe's non-blocking read end and its write end, each closed by its stack."""
    reader, writer = os.pipe()
    readers.callback(os.close, reader)
    writers.callback(os.close, writer)
    os.set_blocking(reader, False)
    return reader, writer


def inside(path: str) -> str:
    """Return the absolute path inside that a path relative to the workspace means."""
    return str(PurePosixPath(WORKSPACE, path))


@contextlib.contextmanager
def _standard_input(content: bytes) -> Iterator[int]:
    if content:
        with sealed_memory(content) as fd:
            yield fd
        return
    fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
