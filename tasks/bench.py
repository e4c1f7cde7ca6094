"""What an engine works with during one run: implements ``tasks.agent.ports.Bench``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from django.conf import settings
from django.db import transaction

from asynccoder.lib import bus, storable
from asynccoder.lib.connections import let_go
from repositories import git
from tasks import events, lease
from tasks.agent.ports import CheckRecord, FileChange, ToolResult
from tasks.analysis import checks
from tasks.events import Event
from tasks.journal import RunJournal
from tasks.models import Check, Task
from tasks.sandbox.base import Sandbox
from tasks.sandbox.proxy import Verdict
from tasks.workspace import RunWorkspace

STREAM_SECONDS = 0.3
"""Streamed text is written at most this often: one row each, not one a token."""
DIFF_BYTES = 2 * 1024**2
FILE_BYTES = 5 * 1024**2
CHECK_OUTPUT = 20_000


class RunBench:
    """The platform's side of one run."""

    def __init__(self, task: Task, workspace: RunWorkspace, journal: RunJournal) -> None:
        self.task = task
        self.workspace = workspace
        self._journal = journal
        journal.on_answer = self.flush
        workspace.report = self._log_network
        self._began = time.monotonic()
        self._text = ""
        self._gathering_since = 0.0
        self._rounds: dict[str, int] = {"before": 0, "after": 0}
        self._files: tuple[str, Sequence[git.TreeEntry]] = ("", ())
        self._results: dict[str, Sequence[CheckRecord]] = {}

    @property
    def sandbox(self) -> Sandbox:
        return self.workspace.sandbox

    @property
    def journal(self) -> RunJournal:
        return self._journal

    def elapsed(self) -> float:
        """Return the seconds of this attempt and of the steps of the earlier ones."""
        return self._journal.replayed_seconds + time.monotonic() - self._began

    # --- the difference ------------------------------------------------------------------------

    def diff(self) -> str:
        return git.diff(
            self.workspace.store, self.task.base_commit, self._journal.head, max_bytes=DIFF_BYTES
        )

    def changed_files(self) -> Sequence[FileChange]:
        files = git.changed_files(self.workspace.store, self.task.base_commit, self._journal.head)
        return [FileChange(file.path, file.status, file.added, file.removed) for file in files]

    def show(self, path: str, *, at: Literal["base", "head"]) -> bytes | None:
        commit = self.task.base_commit if at == "base" else self._journal.head
        return git.show_file(self.workspace.store, commit, path, max_bytes=FILE_BYTES)

    # --- checks --------------------------------------------------------------------------------

    def run_checks(self, *, phase: Literal["before", "after"]) -> Sequence[CheckRecord]:
        """Run every check on the present tree; each is a step, and a row that proves it."""
        self._rounds[phase] += 1
        commands = json.loads(self._journal.note(name="checks", effect=self._find_checks))
        records = [self._run_check(command, phase) for command in commands]
        self._results[phase] = records
        return records

    def checks_of(self, phase: Literal["before", "after"]) -> Sequence[CheckRecord] | None:
        """Return what the last round of a phase gave, or None if it was not run."""
        return self._results.get(phase)

    def _find_checks(self) -> str:
        repository = self.task.repository
        named = list(repository.check_commands) if repository else []
        return json.dumps(named or checks.detect(self.sandbox, self._paths()))

    def _paths(self) -> list[str]:
        """Return the files of the newest checkpoint, sorted as paths."""
        return [entry.path for entry in self.files(self._journal.head) if entry.kind == "file"]

    def files(self, commit: str) -> Sequence[git.TreeEntry]:
        """Return every file of a commit; those of the last one asked for are kept."""
        if self._files[0] != commit:
            self._files = (commit, git.list_tree(self.workspace.store, commit))
        return self._files[1]

    def _run_check(self, command: str, phase: Literal["before", "after"]) -> CheckRecord:
        def effect() -> ToolResult:
            record = checks.run(self.sandbox, command, seconds=settings.CHECK_SECONDS)
            return ToolResult(
                record.output or record.reason,
                is_error=record.verdict == "failed",
                exit_code=record.exit_code,
                summary=f"Check {command}: {record.verdict.replace('_', ' ')}",
                data=json.dumps(asdict(record), ensure_ascii=False),
            )

        result = self._journal.tool_call(
            name="check",
            arguments=json.dumps([phase, self._rounds[phase], command]),
            changes=False,
            effect=effect,
            label=f"Running {command}",
        )
        record = CheckRecord(**json.loads(result.data))
        self._write_check(record, phase)
        return record

    def _write_check(self, record: CheckRecord, phase: str) -> None:
        values = storable.data(asdict(record) | {"output": record.output[-CHECK_OUTPUT:]})
        values |= {"commit": self._journal.head}
        command = values.pop("command")[:1000]
        key = {"phase": phase, "round": self._rounds[phase], "command": command}
        with transaction.atomic():
            self._journal.fence()
            _, is_new = Check.objects.get_or_create(task=self.task, **key, defaults=values)
            if is_new:
                names = ("verdict", "exit_code", "seconds", "reason")
                data = {name: values[name] for name in names}
                message = f"{command}: {record.verdict.replace('_', ' ')}"
                data |= {"phase": phase, "command": command}
                self._append(Event("check.finished", message, data=data))

    # --- what people see -----------------------------------------------------------------------

    def set_plan(self, items: Sequence[tuple[str, str]]) -> None:
        plan = [{"title": title, "status": status} for title, status in items]
        if not self._journal.is_replaying:
            self._append(Event("task.plan_changed", data={"plan": plan}), plan=plan)

    def set_progress(self, percent: int, step: str) -> None:
        if self._journal.is_replaying:
            return
        percent = max(0, min(percent, 99))
        self.task.progress = max(percent, self.task.progress)
        with transaction.atomic():
            self._append(
                Event("task.progressed", step, data={"progress": percent, "step": step}),
                progress=lease.raise_progress(percent),
                current_step=step[:200],
            )
            events.announce_status(self.task)

    def log(self, message: str, *, level: str = "info", data: dict[str, Any] | None = None) -> None:
        if not self._journal.is_replaying:
            self._append(Event("log.written", message, level, data or {}))

    def tell(self, message: str) -> None:
        """Log what this attempt does on its own account, also while it replays."""
        self._append(Event("log.written", message))
        bus.send()

    def _log_network(self, verdict: Verdict) -> None:
        self.log(f"Network: {verdict}", level="info" if verdict.is_allowed else "warning")

    def stream(self, text: str) -> None:
        """Gather the model's text and write what came in STREAM_SECONDS at once."""
        now = time.monotonic()
        if not self._text:
            self._gathering_since = now
        self._text += text
        if now - self._gathering_since >= STREAM_SECONDS:
            self.flush()
            let_go()
            bus.send()

    def flush(self) -> bool:
        """Write the text that was gathered, if any; the journal calls it as it settles the answer."""
        text, self._text = self._text, ""
        if text:
            self._append(Event("model.text", data={"text": text}))
        return bool(text)

    def _append(self, event: Event, **changes: Any) -> None:
        events.append(self.task.pk, event, generation=self._journal.generation, **changes)
