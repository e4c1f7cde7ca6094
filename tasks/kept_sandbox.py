"""The sandbox of a whole run: one at a time, replaced when it dies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Self, TypeVar

from django.conf import settings

from tasks.errors import SandboxBroke, SandboxMissing
from tasks.sandbox.base import (
    Command,
    CommandResult,
    Sandbox,
    SandboxLost,
    SandboxUnavailable,
)

logger = logging.getLogger(__name__)

QUIET_TOOLS = {
    # Tools that a check or the agent runs must not leave their caches in the workspace.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_ADDOPTS": "-p no:cacheprovider",
    "RUFF_NO_CACHE": "true",
    "MYPY_CACHE_DIR": "/dev/null",
    "COVERAGE_FILE": "/tmp/.coverage",  # noqa: S108 - inside the sandbox, which has its own /tmp
    "CI": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "TERM": "dumb",
}
T = TypeVar("T")


class KeptSandbox:
    """One sandbox for a whole run; when it dies, another takes its place at the last checkpoint.

    Implements ``tasks.sandbox.base.Sandbox``.
    """

    def __init__(
        self,
        make: Callable[[], Sandbox],
        after: Callable[[], None],
    ) -> None:
        self._make = make
        """Returns one that runs and whose tree is in place."""
        self._after = after
        """Called after each command."""
        self._losses = 0
        self._inner: Sandbox | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *exc: object) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.__exit__(*exc)

    def _open(self) -> Sandbox:
        try:
            self._inner = self._make()
        except SandboxUnavailable as error:
            raise SandboxMissing(str(error)) from error
        return self._inner

    def make_ready(self) -> None:
        """Make sure that a sandbox runs and its tree is in place."""
        self._running()

    def _running(self) -> Sandbox:
        """Return the sandbox, or a new one where there is none (any more)."""
        return self._inner or self._open()

    def run(
        self, command: Command, *, on_output: Callable[[bytes], None] | None = None
    ) -> CommandResult:
        """Run a command; the death of the sandbox becomes a failed command that says so."""
        command = replace(command, env={**QUIET_TOOLS, **command.env})
        try:
            result = self._running().run(command, on_output=on_output)
        except SandboxLost as error:
            self._replace(error)
            notice = f"{error} The workspace is back where it was before this command.\n"
            result = CommandResult(137, notice.encode(), stopped="memory", total_bytes=len(notice))
        self._after()
        return result

    def read(self, path: str, *, limit: int = 10 * 1024**2) -> bytes:
        return self._retry(lambda sandbox: sandbox.read(path, limit=limit))

    def write(self, path: str, content: bytes) -> None:
        self._retry(lambda sandbox: sandbox.write(path, content))

    def stop(self) -> None:
        if self._inner is not None:
            self._inner.stop()

    def _retry(self, use: Callable[[Sandbox], T]) -> T:
        try:
            return use(self._running())
        except SandboxLost as error:
            self._replace(error)
            return use(self._running())

    def _replace(self, error: SandboxLost) -> None:
        self.__exit__(None, None, None)
        self._losses += 1
        logger.warning("sandbox lost (%s of %s): %s", self._losses, settings.SANDBOX_LOSSES, error)
        if self._losses > settings.SANDBOX_LOSSES:
            raise SandboxBroke(str(error)) from error
