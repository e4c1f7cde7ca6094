"""The agent's ports in memory: a journal that can be killed, and a bench over a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from aimodels.providers.base import ContextOverflow, MalformedReply, Provider, Reply
from aimodels.providers.scripted import ScriptedModel
from tasks.agent.budget import AgentLimits
from tasks.agent.loop import run_agent
from tasks.agent.ports import Assignment, CheckRecord, FileChange, Handback, Review, ToolResult
from tasks.modes import MODES
from tasks.sandbox.base import Command, Sandbox
from tasks.tests.local_sandbox import LocalSandbox


class Killed(BaseException):
    """The worker dies here."""


@dataclass
class MemoryJournal:
    """Steps in a list. ``kill_at`` is the step that dies, before its effect or before its record."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    kill_at: int | None = None
    kill_after_effect: bool = False
    position: int = 0
    live_calls: int = 0
    on_change: Callable[[], dict[str, bytes]] = dict

    def model_call(
        self,
        *,
        digest: str,
        request_bytes: int,
        max_output_tokens: int,
        effect: Callable[[], Reply],
    ) -> Reply:
        known = self._known("model", digest)
        if known is None:
            self.live_calls += 1
            try:
                outcome = {"reply": self._effect(effect).to_json()}
            except (MalformedReply, ContextOverflow) as error:
                outcome = {"error": type(error).__name__, "message": str(error)}
            known = self._record("model", digest, {**outcome, "bytes": request_bytes})
        if "error" in known:
            kinds = {"MalformedReply": MalformedReply, "ContextOverflow": ContextOverflow}
            raise kinds[known["error"]](known["message"])
        return Reply.from_json(known["reply"])

    def tool_call(
        self,
        *,
        name: str,
        arguments: str,
        changes: bool,
        effect: Callable[[], ToolResult],
        label: str = "",
    ) -> ToolResult:
        digest = f"{name}\0{arguments}"
        known = self._known("tool", digest)
        if known is None:
            result = asdict(self._effect(effect))
            result.pop("full")
            tree = self.on_change() if changes else None
            known = self._record("tool", digest, {"result": json.dumps(result), "tree": tree})
        return ToolResult(**json.loads(known["result"]))

    def note(self, *, name: str, effect: Callable[[], str]) -> str:
        known = self._known("note", name)
        if known is None:
            known = self._record("note", name, {"text": self._effect(effect)})
        return str(known["text"])

    def names(self) -> list[str]:
        return [step["digest"].split("\0")[0] for step in self.steps if step["kind"] == "tool"]

    def last_tree(self) -> dict[str, bytes] | None:
        trees = [step["tree"] for step in self.steps if step.get("tree") is not None]
        return trees[-1] if trees else None

    def _known(self, kind: str, digest: str) -> dict[str, Any] | None:
        self.position += 1
        if self.position > len(self.steps):
            return None
        step = self.steps[self.position - 1]
        assert (step["kind"], step["digest"]) == (kind, digest), "the replay went another way"
        return step

    def _effect(self, effect: Callable[[], Any]) -> Any:
        if self.kill_at == self.position and not self.kill_after_effect:
            raise Killed
        outcome = effect()
        if self.kill_at == self.position:
            raise Killed
        return outcome

    def _record(self, kind: str, digest: str, outcome: dict[str, Any]) -> dict[str, Any]:
        self.steps.append({"kind": kind, "digest": digest, **outcome})
        return self.steps[-1]


class MemoryBench:
    """The Bench protocol over a folder; the difference is against the files it began with."""

    def __init__(
        self,
        root: Path,
        journal: MemoryJournal | None = None,
        *,
        checks: Sequence[str] = (),
        base: dict[str, bytes] | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.root = root
        self.base = base if base is not None else tree_of(root)
        self._journal = journal or MemoryJournal()
        self._journal.on_change = lambda: tree_of(root)
        self._sandbox: Sandbox = sandbox or LocalSandbox(root)
        self.check_commands = checks
        self.results: dict[str, list[CheckRecord]] = {}
        self.rounds: list[str] = []
        self.plans: list[Sequence[tuple[str, str]]] = []
        self.progress: list[int] = []
        self.streamed: list[str] = []
        self.clock: Callable[[], float] = lambda: 1.0

    @property
    def sandbox(self) -> Sandbox:
        return self._sandbox

    @property
    def journal(self) -> MemoryJournal:
        return self._journal

    def elapsed(self) -> float:
        return self.clock()

    def diff(self) -> str:
        import difflib

        now, parts = tree_of(self.root), []
        for path in sorted(set(self.base) | set(now)):
            old, new = self.base.get(path, b"").decode(), now.get(path, b"").decode()
            if old != new:
                lines = difflib.unified_diff(
                    old.splitlines(), new.splitlines(), f"a/{path}", f"b/{path}", lineterm=""
                )
                parts.append("\n".join(lines))
        return "\n".join(parts)

    def changed_files(self) -> Sequence[FileChange]:
        now = tree_of(self.root)
        changes = []
        for path in sorted(set(self.base) | set(now)):
            if self.base.get(path) != now.get(path):
                status: Literal["added", "modified", "deleted"] = "modified"
                status = "added" if path not in self.base else status
                changes.append(FileChange(path, "deleted" if path not in now else status, 1, 1))
        return changes

    def show(self, path: str, *, at: Literal["base", "head"]) -> bytes | None:
        return self.base.get(path) if at == "base" else tree_of(self.root).get(path)

    def run_checks(self, *, phase: Literal["before", "after"]) -> Sequence[CheckRecord]:
        self.rounds.append(phase)
        self.results[phase] = [self._check(command) for command in self.check_commands]
        return self.results[phase]

    def checks_of(self, phase: Literal["before", "after"]) -> Sequence[CheckRecord] | None:
        return self.results.get(phase)

    def _check(self, command: str) -> CheckRecord:
        def effect() -> ToolResult:
            result = self.sandbox.run(Command(["bash", "-c", command]))
            verdict = "failed" if result.exit_code else "passed"
            return ToolResult(json.dumps([verdict, result.exit_code, result.text]))

        arguments = json.dumps([len(self.rounds), command])
        done = self.journal.tool_call(
            name="check", arguments=arguments, changes=False, effect=effect
        )
        verdict, code, output = json.loads(done.text)
        return CheckRecord(command, verdict, code, output)

    def set_plan(self, items: Sequence[tuple[str, str]]) -> None:
        self.plans.append(items)

    def set_progress(self, percent: int, step: str) -> None:
        self.progress.append(percent)

    def log(self, message: str, *, level: str = "info", data: dict[str, Any] | None = None) -> None:
        """Nobody reads it."""

    def stream(self, text: str) -> None:
        self.streamed.append(text)


def tree_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and ".pytest_cache" not in path.parts
    }


def write_tree(root: Path, files: dict[str, str] | dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def make_assignment(type: str = "debug", **values: Any) -> Assignment:
    defaults: dict[str, Any] = {
        "task_id": "11111111-2222-3333-4444-555555555555",
        "type": type,
        "prompt": "Fix the bug in add.",
        "repository": "alice/calculator",
        "branch": "main",
        "brief": "A calculator.",
    }
    return Assignment(**{**defaults, **values})


def play(
    bench: MemoryBench,
    provider: Provider | Sequence[Any],
    *,
    type: str = "debug",
    limits: AgentLimits | None = None,
    **values: Any,
) -> Handback:
    """Run the loop in a mode with a provider or a script."""
    model = ScriptedModel(provider) if isinstance(provider, Sequence) else provider
    return run_agent(
        assignment=make_assignment(type, **values),
        mode=MODES[type],
        provider=model,
        bench=bench,
        limits=limits or AgentLimits(),
    )


def review_of(base: dict[str, bytes], head: dict[str, bytes], lines: dict[str, set[int]]) -> Review:
    frozen = {path: frozenset(numbers) for path, numbers in lines.items()}
    return Review("base", "head", "diff --git a/x b/x", frozen)
