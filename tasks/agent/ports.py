"""What an engine (the agent's loop, the built-in engine) is given, and what it hands back.

Plain Python: ``tasks.runner`` implements the ports with the database, the sandbox and the
ledger; tests implement them in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from aimodels.providers.base import Reply
from tasks.analysis.checks import CheckRecord as CheckRecord  # the engines' name for it
from tasks.sandbox.base import Sandbox


@dataclass(frozen=True, slots=True)
class Handback:
    """What an engine says it has done. Claims here are text; the platform's checks are proof."""

    status: Literal["done", "no_change_needed", "blocked"]
    summary: str
    content: str = ""
    """Markdown: the answer, plan document, review or report."""
    data: dict[str, Any] = field(default_factory=dict)
    """The result in the shape of the task type."""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call gave: ``text`` for the model, the rest for people."""

    text: str
    is_error: bool = False
    exit_code: int | None = None
    summary: str = ""
    """One line for the timeline, such as "Ran pytest -q"."""
    full: bytes = b""
    """The whole output where ``text`` shows only a part; kept as an artifact."""
    data: str = ""
    """JSON that the engine is given again on resume; neither the model nor people see it."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of the difference between the base commit and now."""

    path: str
    status: Literal["added", "modified", "deleted"]
    added: int = 0
    removed: int = 0


class Journal(Protocol):
    """Durable steps. On resume a step that is done returns its recorded outcome at once.

    The caller must come to the same steps in the same order for the same outcomes: whatever is
    not a function of earlier outcomes (a clock, a random number) goes through ``note``.
    Every method may raise control flow of ``tasks.errors`` (LeaseLost, RunParked) or
    ``OutOfBudget``; let it rise. What ``model_call``'s effect raises rises too: MalformedReply
    (charged by its usage) and ContextOverflow are recorded first, and raised again on resume, so
    the loop may catch them; other ProviderErrors end or park the run.
    """

    def model_call(
        self,
        *,
        digest: str,
        request_bytes: int,
        max_output_tokens: int,
        effect: Callable[[], Reply],
    ) -> Reply:
        """Reserve the worst case, call, settle what was used. Raises OutOfBudget, ProviderError."""
        ...

    def tool_call(
        self,
        *,
        name: str,
        arguments: str,
        changes: bool,
        effect: Callable[[], ToolResult],
        label: str = "",
    ) -> ToolResult:
        """Run a tool; after one that ``changes`` files a checkpoint is made before it settles.

        ``label`` is what people read while it runs, such as "Running pytest".
        """
        ...

    def note(self, *, name: str, effect: Callable[[], str]) -> str:
        """Record a decision that cannot be computed again, and return it."""
        ...


class Bench(Protocol):
    """Everything else that an engine may ask of the platform during one run."""

    @property
    def sandbox(self) -> Sandbox: ...

    @property
    def journal(self) -> Journal: ...

    def elapsed(self) -> float:
        """Return the run's seconds of wall time over all its attempts."""
        ...

    def diff(self) -> str:
        """Return the unified diff from the base commit to the newest checkpoint."""
        ...

    def changed_files(self) -> Sequence[FileChange]:
        """Return the files of that diff."""
        ...

    def show(self, path: str, *, at: Literal["base", "head"]) -> bytes | None:
        """Return a file's bytes from git, or None where it does not exist."""
        ...

    def run_checks(self, *, phase: Literal["before", "after"]) -> Sequence[CheckRecord]:
        """Run the repository's checks in the sandbox, record and return them (journalled)."""
        ...

    def checks_of(self, phase: Literal["before", "after"]) -> Sequence[CheckRecord] | None:
        """Return what the last round of a phase gave, or None if there was none."""
        ...

    def set_plan(self, items: Sequence[tuple[str, str]]) -> None:
        """Show the checklist: (title, "pending" | "in_progress" | "done")."""
        ...

    def set_progress(self, percent: int, step: str) -> None:
        """Show what happens now; a percentage below an earlier one is ignored."""
        ...

    def log(self, message: str, *, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Append a line to the task's log."""
        ...

    def stream(self, text: str) -> None:
        """Show a piece of the model's text as it comes (coalesced by the platform)."""
        ...


@dataclass(frozen=True, slots=True)
class Review:
    """What a pr_review looks at."""

    base: str
    head: str
    diff: str
    changed_lines: dict[str, frozenset[int]]
    """Path to the line numbers, in the new version, that the change added or touched."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The task as an engine sees it."""

    task_id: str
    type: str
    prompt: str
    repository: str
    branch: str
    target_branch: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    files: Sequence[dict[str, str]] = ()
    brief: str = ""
    """Repository brief: AGENTS.md, README commands, map of the tree (data, not orders)."""
    review: Review | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """What a task brings along: ``text`` for the model, ``data`` for the result that is made."""

    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)


class Mode(Protocol):
    """One task type as the loop sees it: ``tasks.modes`` has one for each."""

    @property
    def type(self) -> str: ...

    @property
    def is_read_only(self) -> bool: ...

    @property
    def is_checked(self) -> bool:
        """Whether the platform's checks decide about a repair round."""
        ...

    @property
    def tools(self) -> Sequence[str]: ...

    @property
    def instructions(self) -> str: ...

    @property
    def done(self) -> str: ...

    @property
    def checklist(self) -> str: ...

    @property
    def fields(self) -> Mapping[str, Mapping[str, Any]]:
        """What ``finish`` takes besides status, summary and evidence: name to JSON schema."""
        ...

    @property
    def required(self) -> Sequence[str]:
        """The fields that must be there when the status is "done"."""
        ...

    def material(self, assignment: Assignment, bench: Bench) -> Material:
        """Return what the task brings along, such as the diff to review (steps are journalled)."""
        ...

    def refuse(self, arguments: dict[str, Any], bench: Bench, assignment: Assignment) -> str | None:
        """Return why this finish cannot stand, in words for the model, or None."""
        ...

    def make(
        self,
        arguments: dict[str, Any],
        bench: Bench,
        assignment: Assignment,
        material: Material,
    ) -> Handback:
        """Return the result that an accepted finish makes."""
        ...
