"""A bench in memory: a journal that replays, over any sandbox and a dict of base files."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from aimodels.providers.base import Reply
from tasks.agent.ports import CheckRecord, FileChange, ToolResult
from tasks.analysis import checks
from tasks.analysis.base import list_files
from tasks.sandbox.base import Sandbox


@dataclass
class MemoryJournal:
    """Runs each step once; given the outcomes of an earlier run it replays them first."""

    replay: list[tuple[str, str, ToolResult]] = field(default_factory=list)
    steps: list[tuple[str, str, ToolResult]] = field(default_factory=list)
    changing: list[str] = field(default_factory=list)
    effects: int = 0

    def model_call(
        self,
        *,
        digest: str,
        request_bytes: int,
        max_output_tokens: int,
        effect: Callable[[], Reply],
    ) -> Reply:
        raise AssertionError("the built-in engine calls no model")

    def tool_call(
        self,
        *,
        name: str,
        arguments: str,
        changes: bool,
        effect: Callable[[], ToolResult],
        label: str = "",
    ) -> ToolResult:
        if self.replay:
            known_name, known_arguments, result = self.replay.pop(0)
            assert (known_name, known_arguments) == (name, arguments)
        else:
            self.effects += 1
            result = effect()
        if changes:
            self.changing.append(name)
        self.steps.append((name, arguments, result))
        return result

    def note(self, *, name: str, effect: Callable[[], str]) -> str:
        return effect()


class MemoryBench:
    """Implements tasks.agent.ports.Bench."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        base: dict[str, bytes] | None = None,
        replay: Sequence[tuple[str, str, ToolResult]] = (),
        commands: Sequence[str] | None = None,
    ) -> None:
        self.sandbox = sandbox
        self.journal = MemoryJournal(list(replay))
        self.base = self._files() if base is None else base
        self.commands = commands
        self.plans: list[list[tuple[str, str]]] = []
        self.progress: list[int] = []
        self._checks: dict[str, Sequence[CheckRecord]] = {}
        self._rounds = 0

    def _files(self) -> dict[str, bytes]:
        return {path: self.sandbox.read(path) for path in list_files(self.sandbox).paths}

    def elapsed(self) -> float:
        return 0.0

    def diff(self) -> str:
        now = self._files()
        parts: list[str] = []
        for path in sorted(self.base.keys() | now.keys()):
            before = self.base.get(path, b"").decode().splitlines(keepends=True)
            after = now.get(path, b"").decode().splitlines(keepends=True)
            parts += difflib.unified_diff(before, after, f"a/{path}", f"b/{path}")
        return "".join(parts)

    def changed_files(self) -> Sequence[FileChange]:
        now = self._files()
        changes = []
        for path in sorted(self.base.keys() | now.keys()):
            if path not in self.base:
                changes.append(FileChange(path, "added"))
            elif path not in now:
                changes.append(FileChange(path, "deleted"))
            elif self.base[path] != now[path]:
                changes.append(FileChange(path, "modified"))
        return changes

    def show(self, path: str, *, at: Literal["base", "head"]) -> bytes | None:
        return self.base.get(path) if at == "base" else self._files().get(path)

    def run_checks(self, *, phase: Literal["before", "after"]) -> Sequence[CheckRecord]:
        self._rounds += 1
        commands = checks.detect(self.sandbox) if self.commands is None else self.commands
        self._checks[phase] = [self._check(command) for command in commands]
        return self._checks[phase]

    def _check(self, command: str) -> CheckRecord:
        def effect() -> ToolResult:
            return ToolResult(json.dumps(asdict(checks.run(self.sandbox, command))))

        result = self.journal.tool_call(
            name="check",
            arguments=json.dumps([self._rounds, command]),
            changes=False,
            effect=effect,
        )
        return CheckRecord(**json.loads(result.text))

    def checks_of(self, phase: Literal["before", "after"]) -> Sequence[CheckRecord] | None:
        return self._checks.get(phase)

    def set_plan(self, items: Sequence[tuple[str, str]]) -> None:
        self.plans.append(list(items))

    def set_progress(self, percent: int, step: str) -> None:
        self.progress.append(percent)

    def log(self, message: str, *, level: str = "info", data: dict[str, Any] | None = None) -> None:
        pass

    def stream(self, text: str) -> None:
        raise AssertionError("the built-in engine has no model whose text could stream")
