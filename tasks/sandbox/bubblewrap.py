"""The bubblewrap sandbox: one per run, with an init inside that starts each command.

What holds it together: the init is PID 1 of the sandbox, so its end is everyone's. It ends when
this process closes (or dies and so closes) its end of the socket, when bubblewrap dies, and
bubblewrap dies with the *thread* that started it. Nothing of a tenant runs before the first request.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from tasks.sandbox import launch
from tasks.sandbox.base import (
    Command,
    CommandResult,
    Limits,
    SandboxLost,
    SandboxUnavailable,
    Workspace,
)
from tasks.sandbox.channel import Channel, sealed_memory, sized_memory
from tasks.sandbox.execution import Execution, Surroundings, inside
from tasks.sandbox.flags import HOME, PROXY_ENVIRONMENT, Plan
from tasks.sandbox.orphans import Owner
from tasks.sandbox.toolchain import Toolchain
from tasks.sandbox.watch import Watch

START_SECONDS = 20.0
FILE_SECONDS = 30.0
END_SECONDS = 10.0
LARGEST_COMPLAINT = 4000
ERRORS: dict[str, type[OSError] | type[ValueError]] = {
    "missing": FileNotFoundError,
    "folder": IsADirectoryError,
    "refused": PermissionError,
}


class Bubblewrap:
    """A sandbox of Linux namespaces. Enter it on a thread that lives longer than it does.

    Calls come from one thread at a time; ``stop`` alone may come from anywhere.
    """

    def __init__(
        self, workspace: Workspace, limits: Limits | None = None, *, toolchain: Toolchain
    ) -> None:
        self._limits = limits or Limits()
        self._plan = Plan(workspace, self._limits, toolchain, Owner.this_process().marker)
        self._turn = threading.Lock()
        self._turn_of = 0
        # Re-entrant: a signal handler that calls ``stop`` may interrupt the one who holds it.
        self._stopping = threading.RLock()
        self._resources = contextlib.ExitStack()
        self._around: Surroundings | None = None
        self._stop_end = -1

    def __enter__(self) -> Self:
        """Start it. Raises SandboxUnavailable with the reason in one line."""
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def run(
        self, command: Command, *, on_output: Callable[[bytes], None] | None = None
    ) -> CommandResult:
        """Run one command to its end; exit codes are a shell's (128 + signal, 126, 127).

        Raises SandboxLost, and whatever ``on_output`` raises once the command is ended.
        """
        if not command.argv:
            raise ValueError("a command needs at least a program")
        with self._taking_turn():
            around = self._alive()
            self._forget_stops(around)
            try:
                return Execution(around, command, on_output).run(self._environment(command))
            except SandboxLost:
                self._end()
                raise

    def read(self, path: str, *, limit: int = 10 * 1024**2) -> bytes:
        """Return a regular file's bytes; links are followed inside the sandbox, never outside."""
        with sized_memory(limit) as memory:
            size = self._ask("read", {"path": inside(path), "limit": limit}, memory)
            if not 0 <= size <= limit:
                self._end()
                raise SandboxLost("The sandbox answered nonsense.")
            return os.pread(memory, size, 0)

    def write(self, path: str, content: bytes) -> None:
        """Write a file, making its folders. Raises PermissionError where it is read-only."""
        with sealed_memory(content) as memory:
            self._ask("write", {"path": inside(path)}, memory)

    def stop(self) -> None:
        """End the command that runs now as "cancelled"; with none running, do nothing.

        Safe in a signal handler and from any thread. A command that starts later is not ended.
        """
        with self._stopping, contextlib.suppress(OSError):
            os.write(self._stop_end, b"x")

    # --- Life -----------------------------------------------------------------------------------

    def _start(self, stack: contextlib.ExitStack) -> None:
        outer, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(outer)
        stack.callback(channel.close)
        with inner:
            process = launch.spawn(self._plan, inner)
        stack.callback(_collect, process)
        init = _first_word(channel, process)
        # By handle: the number could be another process's by the time it is needed.
        handle = os.pidfd_open(init)
        stack.callback(os.close, handle)
        stack.callback(_kill, handle)
        watch = self._watch(init)
        stack.callback(watch.close)
        cancelled, self._stop_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, cancelled)
        stack.callback(self._close_stop_end)
        self._around = Surroundings(channel, watch, self._limits, cancelled)

    def _watch(self, init: int) -> Watch:
        workspace = self._plan.workspace
        is_written = not workspace.read_only
        try:
            watch = Watch(
                init, self._limits, (workspace.upper or workspace.base) if is_written else None
            )
        except OSError as error:
            raise SandboxUnavailable(
                f"the sandbox's processes cannot be watched: {error}"
            ) from error
        if workspace.upper is None:
            watch.allow_existing()
        return watch

    def _end(self) -> None:
        self._around = None
        self._resources.close()

    def _close_stop_end(self) -> None:
        # Held, lest ``stop`` writes to a file that has just been given the same number.
        with self._stopping:
            end, self._stop_end = self._stop_end, -1
            os.close(end)

    @contextlib.contextmanager
    def _taking_turn(self) -> Iterator[None]:
        """Serve one request at a time. Raises RuntimeError for one within another."""
        if self._turn_of == threading.get_ident():
            raise RuntimeError("a listener may not use the sandbox whose output it hears")
        with self._turn:
            self._turn_of = threading.get_ident()
            try:
                yield
            finally:
                self._turn_of = 0

    def _alive(self) -> Surroundings:
        if self._around is None:
            raise SandboxLost("The sandbox is not running.")
        return self._around

    # --- Requests -------------------------------------------------------------------------------

    def _ask(self, what: str, fields: dict[str, Any], memory: int) -> int:
        with self._taking_turn():
            channel = self._alive().channel
            try:
                channel.request(what, fields, (memory,))
                if not _is_readable(channel.fileno(), FILE_SECONDS):
                    raise SandboxLost("The sandbox does not answer.")
                answer = channel.receive()
            except SandboxLost:
                self._end()
                raise
        if error := answer.get("error"):
            kind = ERRORS.get(str(error), ValueError)
            raise kind(f"{fields['path']}: {str(answer.get('message', ''))[:200]}")
        size = answer.get("size")
        return size if isinstance(size, int) else -1

    def _forget_stops(self, around: Surroundings) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(around.cancelled, 65536)

    def _environment(self, command: Command) -> dict[str, str]:
        return {
            "PATH": ":".join(self._plan.toolchain.path),
            "HOME": HOME,
            "USER": "agent",
            "LOGNAME": "agent",
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            **(PROXY_ENVIRONMENT if self._plan.workspace.proxy else {}),
            **command.env,
        }


def _is_readable(fd: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _first_word(channel: Channel, process: subprocess.Popen[bytes]) -> int:
    """Wait for the init's "ready" and return its pid here. Raises SandboxUnavailable."""
    try:
        if not _is_readable(channel.fileno(), START_SECONDS):
            raise SandboxUnavailable(f"the sandbox did not start within {START_SECONDS:.0f} s")
        return channel.first_sender()
    except SandboxLost as error:
        _kill_group(process)
        raise SandboxUnavailable(_complaint(process) or str(error)) from error


def _complaint(process: subprocess.Popen[bytes]) -> str:
    """Return the last line that bubblewrap, or what led to it, said before it gave up."""
    assert process.stderr is not None  # noqa: S101 (it was started with a pipe)
    deadline = time.monotonic() + 1
    said = b""
    while len(said) < LARGEST_COMPLAINT and time.monotonic() < deadline:
        if not _is_readable(process.stderr.fileno(), 1):
            break
        chunk = os.read(process.stderr.fileno(), LARGEST_COMPLAINT)
        if not chunk:
            break
        said += chunk
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return explain(lines[-1]) if lines else ""


def explain(complaint: str) -> str:
    """Say what an operator can do about bubblewrap's complaint."""
    hints = {
        "namespace": "this machine does not let programs make user namespaces",
        "uid map": "this machine does not let programs make user namespaces",
        "RTM_NEWADDR": "AppArmor restricts user namespaces here (kernel.apparmor_restrict_unprivileged_userns)",
        "mount proc": "the container hides parts of /proc, so that no new one can be mounted",
        "Unknown option": "this bubblewrap is too old; 0.11 is needed",
        "unshare failed": "a worker that runs as root needs CAP_SYS_ADMIN, or to be started as another user",
    }
    for word, hint in hints.items():
        if word in complaint:
            return f"{hint} ({complaint})"
    return complaint


def _kill(handle: int) -> None:
    """Kill the init and wait for it: it ends last of its namespace's processes."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    _is_readable(handle, END_SECONDS)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill bubblewrap, and a child of it that is still setting up, unless it has been waited for."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _collect(process: subprocess.Popen[bytes]) -> None:
    _kill_group(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    if process.stderr is not None:
        process.stderr.close()
