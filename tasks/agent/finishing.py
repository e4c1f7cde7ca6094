"""How a run ends: the finish tool, the review it is answered with, the checks, the one repair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aimodels.providers.base import ToolSpec
from aimodels.providers.wire import dump
from tasks.agent import prompts
from tasks.agent.arguments import missing_fields
from tasks.agent.output import failed
from tasks.agent.ports import (
    Assignment,
    Bench,
    CheckRecord,
    Handback,
    Material,
    Mode,
    ToolResult,
)

FINISH = "finish"
STATUSES = ["done", "no_change_needed", "blocked"]


class Finishing:
    """Takes the model's finishes: the first is reviewed, the second counts, a repair may follow."""

    def __init__(
        self, mode: Mode, assignment: Assignment, bench: Bench, *, repair_steps: int
    ) -> None:
        self.mode = mode
        self.assignment = assignment
        self.bench = bench
        self.repair_steps = repair_steps
        self.accepted: dict[str, Any] = {}
        """The finish that counts, once there is one."""
        self.is_over = False
        self._is_reviewed = False
        self._repair_left: int | None = None

    def begin_step(self) -> bool:
        """Count a step of the repair; tell whether the repair is used up."""
        if self._repair_left is None:
            return False
        self._repair_left -= 1
        return self._repair_left < 0

    def take(self, arguments: dict[str, Any]) -> ToolResult:
        """Refuse a finish, answer the first with the review list, or end the run."""
        is_first = not self._is_reviewed
        result = self.bench.journal.tool_call(
            name=FINISH,
            arguments=dump(arguments),
            changes=False,
            effect=lambda: self._judge(arguments, is_first=is_first),
        )
        if result.is_error:
            return result
        self._is_reviewed = True
        return result if is_first else self._accept(arguments, result)

    def _judge(self, arguments: dict[str, Any], *, is_first: bool) -> ToolResult:
        """Say what is wrong with a finish, or answer it. Journalled: it looks at the files."""
        required = self.mode.required if arguments["status"] == "done" else ()
        if missing := missing_fields(arguments, required):
            return failed(f"finish lacks: {', '.join(missing)}.")
        if refusal := self.mode.refuse(arguments, self.bench, self.assignment):
            return failed(refusal)
        if not is_first:
            return ToolResult("Accepted.", summary="Finished")
        diff = "" if self.mode.is_read_only else self.bench.diff()
        return ToolResult(prompts.review_list(self.mode, diff), summary="Reviews its result")

    def _accept(self, arguments: dict[str, Any], result: ToolResult) -> ToolResult:
        self.accepted = arguments
        failing = self._failing_checks(arguments)
        if not failing:
            self.is_over = True
            return result
        self._repair_left = self.repair_steps
        text = prompts.repair_request(failing, self.repair_steps)
        return ToolResult(f"{prompts.platform_mark(self.assignment)} {text}", is_error=True)

    def _failing_checks(self, arguments: dict[str, Any]) -> list[CheckRecord]:
        """Run the platform's checks on the result; return what a first round must repair."""
        if not self.mode.is_checked or arguments["status"] != "done":
            return []
        after = self.bench.run_checks(phase="after")
        if self._repair_left is not None:
            return []
        return failing_anew(self.bench.checks_of("before") or (), after)

    def result(self, material: Material) -> Handback:
        return self.mode.make(self.accepted, self.bench, self.assignment, material)

    def result_as_it_is(self, material: Material) -> Handback:
        """Return the accepted result after a repair that came to no end, with its own checks."""
        self.bench.run_checks(phase="after")
        return self.result(material)


def finish_tool(mode: Mode) -> ToolSpec:
    """Return the ``finish`` tool with the fields that this mode hands over."""
    properties: dict[str, Any] = {
        "status": {"type": "string", "enum": STATUSES},
        "summary": {
            "type": "string",
            "minLength": 10,
            "maxLength": 10_000,
            "description": "A few sentences for the user, in Markdown.",
        },
        "evidence": {
            "type": "string",
            "maxLength": 10_000,
            "description": "What you ran or read that shows it: commands and outcomes, files and lines.",
        },
        **mode.fields,
    }
    description = (
        "End the task. The first call is answered with a review list; the second one counts. "
        f"With the status done these are needed: {', '.join(['evidence', *mode.required])}."
    )
    schema: dict[str, object] = {
        "type": "object",
        "properties": properties,
        "required": ["status", "summary", "evidence"],
    }
    return ToolSpec(FINISH, description, schema)


def failing_anew(before: Sequence[CheckRecord], after: Sequence[CheckRecord]) -> list[CheckRecord]:
    """Return the checks that fail now and did not fail before the work."""
    known_bad = {record.command for record in before if record.verdict == "failed"}
    return [
        record for record in after if record.verdict == "failed" and record.command not in known_bad
    ]
