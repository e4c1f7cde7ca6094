"""What a sandbox offers. One file per backend behind this protocol; it knows no Django."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

WORKSPACE = "/workspace"


class SandboxUnavailable(Exception):
    """No sandbox can be made here; the message says in one line what is missing."""


class SandboxLost(Exception):
    """The sandbox died (its memory or disk limit, or its init was killed)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one sandbox; sizes in bytes, times in seconds."""

    processes: int = 256
    memory: int = 2 * 1024**3
    file: int = 256 * 1024**2
    disk: int = 1024**3
    output: int = 64 * 1024**2
    tmp: int = 256 * 1024**2
    open_files: int = 1024


@dataclass(frozen=True, slots=True)
class Workspace:
    """The tree that a sandbox works on.

    ``base`` is never written, nor is ``layer``, which lies on it in an overlay. With ``upper`` and
    ``work`` (empty folders on one ordinary file system) it is the lower layer of an overlay; without
    them ``base`` is bound as it is, which only a read-only sandbox or the fallback without overlays
    (a private copy) may ask for.
    ``read_only_paths`` are bound read-only at the same path inside (the mirror's objects).
    ``proxy`` is the UNIX socket of the platform's proxy, the only way to any network; without
    one there is no trace of it inside.
    """

    base: Path
    upper: Path | None = None
    work: Path | None = None
    read_only: bool = False
    read_only_paths: tuple[Path, ...] = ()
    proxy: Path | None = None
    layer: Path | None = None


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. A failing command is a result, not an exception."""

    exit_code: int
    output: bytes
    """Standard output (and error, unless apart): head and tail of at most ``keep`` bytes."""
    errors: bytes = b""
    total_bytes: int = 0
    seconds: float = 0.0
    stopped: str = ""
    """Why the platform ended it: "" | "timeout" | "output" | "disk" | "memory" | "cancelled"."""

    @property
    def is_cut(self) -> bool:
        return self.total_bytes > len(self.output) + len(self.errors)

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Command:
    """One command to run inside, as a fresh process group in the workspace."""

    argv: Sequence[str]
    seconds: float = 120.0
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    keep: int = 1024**2
    """Bytes of output to keep (head and tail); more is drained and counted."""
    output: int | None = None
    """Bytes of output that end it; without them the sandbox's limit holds."""
    errors_apart: bool = False
    cwd: str = WORKSPACE


class Sandbox(Protocol):
    """A running sandbox. Leaving the ``with`` block ends every process inside."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def run(
        self, command: Command, *, on_output: Callable[[bytes], None] | None = None
    ) -> CommandResult:
        """Run one command to its end, its limit or ``stop``. Raises SandboxLost."""
        ...

    def read(self, path: str, *, limit: int = 10 * 1024**2) -> bytes:
        """Return a regular file's bytes (relative to the workspace or absolute, inside).

        Raises FileNotFoundError, IsADirectoryError, PermissionError, or ValueError for what is
        no regular file or larger than ``limit``.
        """
        ...

    def write(self, path: str, content: bytes) -> None:
        """Write a file inside, making its folders. Raises PermissionError where read-only."""
        ...

    def stop(self) -> None:
        """End the running command now (from another thread or a signal handler)."""
        ...
