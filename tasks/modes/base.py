"""What a task type is to the loop: its prompt, its tools, its idea of done, its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from tasks.agent.ports import Assignment, Bench, Handback, Material

READING_TOOLS = ("bash", "view", "search")
CHANGING_TOOLS = ("bash", "view", "search", "edit", "apply_patch", "plan")

Refuse = Callable[[dict[str, Any], Bench, Assignment], str | None]
Make = Callable[[dict[str, Any], Bench, Assignment, Material], Handback]


class ChangeData(TypedDict):
    """The ``data`` of a result that changed code; the diff and the checks are the platform's."""

    files: list[dict[str, Any]]
    details: dict[str, Any]


def no_material(assignment: Assignment, bench: Bench) -> Material:
    """Bring nothing along besides the task's words."""
    return Material()


def no_refusal(arguments: dict[str, Any], bench: Bench, assignment: Assignment) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One task type; implements ``tasks.agent.ports.Mode``."""

    type: str
    result_kind: str
    """"code_changes" | "answer" | "document" | "review" | "report"."""
    instructions: str
    done: str
    checklist: str
    make: Make
    is_read_only: bool = False
    is_checked: bool = False
    tools: Sequence[str] = CHANGING_TOOLS
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: Sequence[str] = ()
    refuse: Refuse = no_refusal
    material: Callable[[Assignment, Bench], Material] = no_material


# --- shared by the modes that change code -------------------------------------------------------


def refuse_untrue_status(
    arguments: dict[str, Any], bench: Bench, assignment: Assignment
) -> str | None:
    """Refuse a status that the difference contradicts."""
    files = bench.changed_files()
    status = arguments["status"]
    if status == "done" and not files:
        return (
            "No file differs from the start, so the task cannot be `done`. Make the change, or use "
            "`no_change_needed` or `blocked` and say why."
        )
    if status == "no_change_needed" and files:
        names = ", ".join(file.path for file in files[:10])
        return f"These files were changed: {names}. Undo that, or use the status `done`."
    return None


def make_changes(*sections: tuple[str, str]) -> Make:
    """Return the maker of a code-changing result; ``sections`` are (field, heading) pairs."""

    def make(
        arguments: dict[str, Any], bench: Bench, assignment: Assignment, material: Material
    ) -> Handback:
        details = {name: arguments[name] for name, _ in sections if arguments.get(name)}
        parts = [arguments["summary"]]
        parts += [
            f"### {heading}\n{details[name]}" for name, heading in sections if name in details
        ]
        data: ChangeData = {"files": changed(bench), "details": details}
        return Handback(
            status=arguments["status"],
            summary=arguments["summary"],
            content="\n\n".join(parts),
            data=dict(data),
            evidence=arguments.get("evidence", ""),
        )

    return make


def changed(bench: Bench) -> list[dict[str, Any]]:
    return [
        {"path": file.path, "status": file.status, "added": file.added, "removed": file.removed}
        for file in bench.changed_files()
    ]


def text_field(description: str, *, longest: int = 10_000) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest, "description": description}
