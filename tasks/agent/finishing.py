"""The tool that ends a run, and what the platform's checks say about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aimodels.providers.base import ToolSpec
from tasks.agent.ports import CheckRecord, Mode

FINISH = "finish"
STATUSES = ["done", "no_change_needed", "blocked"]


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
