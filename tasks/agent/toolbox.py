"""What a tool is, and what it works with."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aimodels.providers.base import ToolSpec
from tasks.agent.budget import AgentLimits
from tasks.agent.output import clip, failed, place_of, readable
from tasks.agent.ports import Bench, ToolResult
from tasks.sandbox.base import WORKSPACE, Command, CommandResult, Sandbox

FULL_BYTES = 20 * 1024**2
ENVIRONMENT = {
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "TQDM_DISABLE": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


class BadPath(Exception):
    """The path leads out of the workspace or to git's own folder."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """What every tool is given."""

    bench: Bench
    limits: AgentLimits

    @property
    def sandbox(self) -> Sandbox:
        return self.bench.sandbox

    def seconds_left(self) -> float:
        return max(self.limits.deadline_seconds - self.bench.elapsed(), 5.0)

    def run(self, *argv: str, seconds: float = 60.0, stdin: bytes = b"") -> CommandResult:
        """Run one of the platform's own commands for a tool."""
        limit = min(seconds, self.seconds_left())
        return self.sandbox.run(Command(argv, seconds=limit, stdin=stdin, env=ENVIRONMENT))

    def shown(self, text: str) -> tuple[str, bytes]:
        """Return what the model sees of a text and, where that is not all, the whole of it."""
        limit = self.limits.shown_characters
        if len(text) <= limit:
            return text, b""
        whole = text.encode("utf-8", "replace")[:FULL_BYTES]
        return clip(text, limit, place=self._kept(text, whole)), whole

    def _kept(self, text: str, whole: bytes) -> str:
        place = place_of(text)
        try:
            self.sandbox.write(place, whole)
        except (OSError, ValueError):
            return ""
        return place


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: what the model is told, whether it changes files, and what it does.

    ``act`` gets arguments that fit the schema; what it raises of OSError, ValueError and BadPath
    becomes an error for the model.
    """

    spec: ToolSpec
    act: Callable[[Workbench, dict[str, Any]], ToolResult]
    changes: bool = False

    def use(self, workbench: Workbench, arguments: dict[str, Any]) -> ToolResult:
        try:
            return self.act(workbench, arguments)
        except BadPath as error:
            return failed(str(error))
        except FileNotFoundError:
            return failed(f"There is no such file: {arguments.get('path', '')}")
        except IsADirectoryError:
            return failed(f"That is a folder: {arguments.get('path', '')}")
        except PermissionError:
            return failed("This place is read-only.")
        except (OSError, ValueError) as error:
            return failed(f"{self.spec.name} failed: {error}"[:1000])


def inside(path: str) -> str:
    """Return the path relative to the workspace. Raises BadPath for one outside it.

    Links are the sandbox's matter: it resolves them inside, where there is nothing to find.
    """
    absolute = posixpath.normpath(posixpath.join(WORKSPACE, path.strip() or "."))
    if absolute == WORKSPACE:
        return "."
    if not absolute.startswith(f"{WORKSPACE}/"):
        raise BadPath(f"{path} is outside the workspace ({WORKSPACE}).")
    relative = absolute[len(WORKSPACE) + 1 :]
    if relative.split("/")[0] == ".git":
        raise BadPath("The .git folder belongs to the platform.")
    return relative


def readable_place(path: str) -> str:
    """Return a path that may be read: in the workspace, or in the sandbox's own /tmp."""
    absolute = posixpath.normpath(posixpath.join(WORKSPACE, path.strip() or "."))
    if absolute.startswith("/tmp/"):  # noqa: S108 - inside the sandbox
        return absolute
    return inside(path)


def schema(required: list[str], **properties: dict[str, Any]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": required}


def text_of(result: CommandResult) -> str:
    return readable(result.output)
