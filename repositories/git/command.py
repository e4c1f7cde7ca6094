"""The one place that runs git on the host.

Every call has a fixed environment and fixed settings (nothing of the worker's reaches git, and
no configuration but that of repositories which the platform made itself), a time limit, an
output limit and a process group of its own. No call here has a work tree that a sandbox could
write. Errors carry a cleaned ``detail``.
"""

from __future__ import annotations

import os
import re
import select
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

from repositories.git.errors import GitFailed, GitMissing, GitTimedOut, OutputTooLarge

OLDEST = (2, 37)
"""The first git that pins an address (``http.curloptResolve``)."""

TRUSTED_FROM_OPERATOR = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
ERRORS_KEPT = 64 * 1024
PIECE = 64 * 1024

SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.quotePath=false",
    "core.bigFileThreshold=32m",
    # A pack that is mapped whole would count against the memory limit of a call.
    "core.packedGitWindowSize=16m",
    "core.packedGitLimit=128m",
    "core.logAllRefUpdates=false",
    "core.alternateRefsCommand=",
    "credential.helper=",
    "commit.gpgSign=false",
    "push.gpgSign=false",
    "push.recurseSubmodules=no",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "transfer.fsckObjects=true",
    "transfer.bundleURI=false",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "protocol.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "diff.external=",
    "color.ui=false",
    "advice.detachedHead=false",
)

# Old but harmless faults that many honest histories have; all others stay errors.
HARMLESS_FAULTS = (
    "zeroPaddedFilemode",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingEmail",
    "missingNameBeforeEmail",
    "badEmail",
    "badName",
    "badDate",
    "badDateOverflow",
    "badTimezone",
    "missingTaggerEntry",
    "zeroPaddedDate",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits of one call: seconds of wall and processor time, sizes in bytes (0: no limit)."""

    seconds: float = 60
    output: int = 64 * 1024**2
    cpu: int = 0
    file: int = 0
    memory: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One run of git. ``watch`` is asked five times a second and ends the call by True."""

    args: Sequence[str]
    git_dir: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    bounds: Bounds = field(default_factory=Bounds)
    watch: Callable[[], bool] | None = None
    on_errors: Callable[[bytes], None] | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """How a call ended."""

    exit_code: int
    output: bytes
    errors: str
    stopped: Literal["", "timeout", "output", "watch"]


@lru_cache(maxsize=1)
def git_program() -> str:
    """Return the path of git. Raises GitMissing when it is absent or too old."""
    program = shutil.which("git")
    if not program:
        raise GitMissing
    answer = subprocess.run([program, "--version"], capture_output=True, timeout=30, check=False)
    found = re.search(rb"(\d+)\.(\d+)", answer.stdout)
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        raise GitMissing
    return program


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a git call; nothing else of ours reaches it."""
    kept = {name: os.environ[name] for name in TRUSTED_FROM_OPERATOR if name in os.environ}
    return {
        "PATH": f"{Path(git_program()).parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        **kept,
        **extra,
    }


def _limited(bounds: Bounds) -> list[str]:
    """Return the programs that set limits before git starts, and end it with its worker."""
    limits = {"cpu": bounds.cpu, "fsize": bounds.file, "as": bounds.memory}
    options = [f"--{name}={value}" for name, value in limits.items() if value]
    if not options:
        return []
    prefix = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    return [*prefix, "prlimit", "--core=0", *options, "--"] if shutil.which("prlimit") else prefix


def command_line(call: Call) -> list[str]:
    line = [*_limited(call.bounds), git_program()]
    if call.git_dir is not None:
        line.append(f"--git-dir={call.git_dir}")
    faults = [f"fetch.fsck.{name}=ignore" for name in HARMLESS_FAULTS]
    for setting in (*SETTINGS, *faults, *call.settings):
        line += ["-c", setting]
    return [*line, *call.args]


def run(call: Call) -> Finished:
    """Run git to its end or its limit; a failing git is a result, not an exception."""
    process = subprocess.Popen(
        command_line(call),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(call.env),
        cwd="/",
        start_new_session=True,
        umask=0o022,
    )
    with process:
        exchange = Exchange(process, call)
        try:
            exchange.run()
        finally:
            end_group(process)
    errors = bytes(exchange.errors).decode("utf-8", "replace")
    return Finished(process.returncode, bytes(exchange.output), errors, exchange.stopped)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the call's process group, and reap git."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Exchange:
    """Feeds a process its input and gathers its output, within the call's limits."""

    def __init__(self, process: subprocess.Popen[bytes], call: Call) -> None:
        self.process = process
        self.call = call
        self.output = bytearray()
        self.errors = bytearray()
        self.stopped: Literal["", "timeout", "output", "watch"] = ""
        self.pending = memoryview(call.stdin)

    def run(self) -> None:
        deadline = time.monotonic() + self.call.bounds.seconds
        with selectors.DefaultSelector() as selector:
            self._register(selector)
            while selector.get_map() and not self.stopped:
                for key, _ in selector.select(timeout=0.2):
                    self._serve(selector, key)
                self._look_at_limits(deadline)
            self._await_exit(deadline)

    def _register(self, selector: selectors.BaseSelector) -> None:
        inward, outward, errors = self.process.stdin, self.process.stdout, self.process.stderr
        if inward is None or outward is None or errors is None:
            raise TypeError("every stream of a call is a pipe")
        for stream in (inward, outward, errors):
            os.set_blocking(stream.fileno(), False)
        selector.register(inward, selectors.EVENT_WRITE)
        selector.register(outward, selectors.EVENT_READ)
        selector.register(errors, selectors.EVENT_READ)

    def _serve(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        stream: IO[bytes] = key.fileobj  # type: ignore[assignment] # only pipes are registered
        is_open = self._write(stream) if stream is self.process.stdin else self._read(stream)
        if not is_open:
            selector.unregister(stream)
            stream.close()

    def _write(self, stream: IO[bytes]) -> bool:
        try:
            written = os.write(stream.fileno(), self.pending[:PIECE]) if self.pending else 0
        except BrokenPipeError:
            return False
        self.pending = self.pending[written:]
        return bool(self.pending)

    def _read(self, stream: IO[bytes]) -> bool:
        piece = os.read(stream.fileno(), PIECE)
        if stream is self.process.stdout:
            self.output += piece
        else:
            self.errors += piece[: ERRORS_KEPT - len(self.errors)]
            if piece and self.call.on_errors:
                self.call.on_errors(piece)
        return bool(piece)

    def _look_at_limits(self, deadline: float) -> None:
        if len(self.output) > self.call.bounds.output:
            self.stopped = "output"
        elif time.monotonic() > deadline:
            self.stopped = "timeout"
        elif self.call.watch is not None and self.call.watch():
            self.stopped = "watch"

    def _await_exit(self, deadline: float) -> None:
        if self.stopped:
            return
        left = max(0.1, deadline - time.monotonic())
        try:
            self.process.wait(timeout=_left_after_exit(self.process.pid, left))
        except subprocess.TimeoutExpired:
            self.stopped = "timeout"


def _left_after_exit(pid: int, seconds: float) -> float:
    """Wait for a child's end, which the kernel tells at once (Linux); return what time is left.

    ``Popen.wait`` with a time looks again and again, a millisecond apart.
    """
    if not hasattr(os, "pidfd_open"):
        return seconds
    handle = os.pidfd_open(pid)
    try:
        ended, _, _ = select.select([handle], [], [], seconds)
    finally:
        os.close(handle)
    return seconds if ended else 0.0


def git(
    *args: str,
    git_dir: Path | None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    bounds: Bounds | None = None,
) -> bytes:
    """Return git's output. Raises GitFailed, GitTimedOut, OutputTooLarge."""
    call = Call(args=args, git_dir=git_dir, stdin=stdin, env=env or {}, bounds=bounds or Bounds())
    finished = run(call)
    if finished.stopped == "timeout":
        raise GitTimedOut
    if finished.stopped == "output":
        raise OutputTooLarge
    if finished.exit_code:
        raise GitFailed(detail=f"git {args[0]}: {finished.errors.strip()[-2000:]}")
    return finished.output
