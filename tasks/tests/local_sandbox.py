"""A sandbox that is none: plain processes in a folder, for tests of what runs inside one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tasks.sandbox.base import WORKSPACE, Command, CommandResult


class LocalSandbox:
    """Implements tasks.sandbox.base.Sandbox; the folder shows as /workspace in all output.

    ``missing`` names programs that this sandbox pretends not to have.
    """

    def __init__(
        self, folder: Path, *, missing: tuple[str, ...] = (), read_only: bool = False
    ) -> None:
        self.folder = folder
        self.missing = missing
        self.read_only = read_only
        self.commands: list[Command] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def run(
        self, command: Command, *, on_output: Callable[[bytes], None] | None = None
    ) -> CommandResult:
        self.commands.append(command)
        if command.argv[0] in self.missing:
            return CommandResult(127, b"", f"{command.argv[0]}: not found\n".encode())
        started = time.monotonic()
        try:
            self._process = self._start(command)
        except FileNotFoundError:
            return CommandResult(127, b"", f"{command.argv[0]}: not found\n".encode())
        stopped = ""
        try:
            out, errors = self._process.communicate(command.stdin, timeout=command.seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            out, errors = self._process.communicate()
            stopped = "timeout"
        return self._result(command, out, errors or b"", time.monotonic() - started, stopped)

    def _result(
        self, command: Command, out: bytes, errors: bytes, seconds: float, stopped: str
    ) -> CommandResult:
        assert self._process is not None
        total = len(out) + len(errors)
        out = out.replace(str(self.folder).encode(), WORKSPACE.encode())
        out = out.replace(f"{self.folder.parent}/tmp/".encode(), b"/tmp/")
        if len(out) > command.keep:
            out = out[: command.keep // 2] + out[-(command.keep // 2) :]
        code = self._process.returncode
        return CommandResult(
            exit_code=code if code >= 0 else 128 - code,
            output=out,
            errors=errors.replace(str(self.folder).encode(), WORKSPACE.encode()),
            total_bytes=max(total, len(out) + len(errors)) if command.keep < total else 0,
            seconds=seconds,
            stopped=stopped,
        )

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        env = {"PATH": path, "HOME": "/tmp", "LANG": "C.UTF-8"}
        env |= {name: self._spell(value) for name, value in command.env.items()}
        return subprocess.Popen(
            list(map(self._spell, command.argv)),
            cwd=self._place(command.cwd),
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if command.errors_apart else subprocess.STDOUT,
            start_new_session=True,
        )

    def read(self, path: str, *, limit: int = 10 * 1024**2) -> bytes:
        file = self._place(path)
        if not file.is_dir() and file.exists() and file.stat().st_size > limit:
            raise ValueError("too large")
        return file.read_bytes()

    def write(self, path: str, content: bytes) -> None:
        file = self._place(path)
        if self.read_only and file.is_relative_to(self.folder):
            raise PermissionError(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, 9)

    def _spell(self, text: str) -> str:
        return text.replace(WORKSPACE, str(self.folder))

    def _place(self, path: str) -> Path:
        if path == WORKSPACE or path.startswith(f"{WORKSPACE}/"):
            return self.folder / path[len(WORKSPACE) :].lstrip("/")
        if path.startswith("/tmp/"):
            return self.folder.parent / path.lstrip("/")
        return self.folder / path
