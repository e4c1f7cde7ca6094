"""architect: a plan that another engineer can carry out; it changes nothing."""

from __future__ import annotations

from typing import Any, TypedDict

from tasks.agent.ports import Assignment, Bench, Handback, Material
from tasks.modes.base import READING_TOOLS, Mode, text_field
from tasks.modes.citations import repository_path, shown_text

CHANGES = ("add", "modify", "delete")
SECTIONS = (
    ("goal", "Goal"),
    ("current_state", "How it is now"),
    ("design", "Design"),
    ("alternatives", "Alternatives considered"),
)
LATER_SECTIONS = (("testing", "Testing"), ("risks", "Risks"), ("open_questions", "Open questions"))


class PlanData(TypedDict):
    """The ``data`` of a plan: its sections as Markdown, and its steps with their files."""

    title: str
    sections: dict[str, str]
    steps: list[dict[str, Any]]


def refuse(arguments: dict[str, Any], bench: Bench, assignment: Assignment) -> str | None:
    """Refuse a plan that names files which are not as it says."""
    known: dict[str, bool] = {}
    problems = [
        f"- step {number}: {problem}"
        for number, step in enumerate(arguments.get("steps", []), 1)
        for file in step.get("files", [])
        if (problem := _problem(file, bench, known))
    ]
    if not problems:
        return None
    return "The plan does not fit the repository:\n" + "\n".join(problems[:20])


def _problem(file: dict[str, Any], bench: Bench, known: dict[str, bool]) -> str:
    """Check a file against the repository as the steps before have left it."""
    path, change = repository_path(file["path"]), file["change"]
    is_there = known[path] if path in known else shown_text(bench, path) is not None
    known[path] = change != "delete"
    if is_there and change == "add":
        return f"{path} exists already (use `modify`)"
    if not is_there and change != "add":
        return f"there is no {path} (use `add` for a new file)"
    return ""


def make(
    arguments: dict[str, Any], bench: Bench, assignment: Assignment, material: Material
) -> Handback:
    names = [name for name, _ in (*SECTIONS, *LATER_SECTIONS)]
    steps = [_cleaned(step) for step in arguments.get("steps", [])]
    data: PlanData = {
        "title": arguments.get("title", "Plan"),
        "sections": {name: arguments[name] for name in names if arguments.get(name)},
        "steps": steps,
    }
    return Handback(
        status=arguments["status"],
        summary=arguments["summary"],
        content=_document(arguments, data),
        data=dict(data),
        evidence=arguments.get("evidence", ""),
    )


def _cleaned(step: dict[str, Any]) -> dict[str, Any]:
    files = [{**file, "path": repository_path(file["path"])} for file in step.get("files", [])]
    return {**step, "files": files}


def _document(arguments: dict[str, Any], data: PlanData) -> str:
    parts = [f"# {data['title']}", arguments["summary"]]
    parts += [
        f"## {title}\n{data['sections'][name]}"
        for name, title in SECTIONS
        if name in data["sections"]
    ]
    if data["steps"]:
        parts.append("## Steps")
        parts += [_step(number, step) for number, step in enumerate(data["steps"], 1)]
    parts += [
        f"## {title}\n{data['sections'][name]}"
        for name, title in LATER_SECTIONS
        if name in data["sections"]
    ]
    return "\n\n".join(parts)


def _step(number: int, step: dict[str, Any]) -> str:
    files = "".join(f"\n- {file['change']} `{file['path']}`" for file in step["files"])
    return f"### {number}. {step['title']}\n{step['description']}" + (f"\n{files}" if files else "")


STEP = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 200},
        "description": {
            "type": "string",
            "minLength": 1,
            "maxLength": 5_000,
            "description": "What to do, and how one sees that it is done.",
        },
        "files": {
            "type": "array",
            "maxItems": 40,
            "items": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "minLength": 1, "maxLength": 1000},
                    "change": {"type": "string", "enum": list(CHANGES)},
                },
                "required": ["path", "change"],
            },
        },
    },
    "required": ["title", "description"],
}

MODE = Mode(
    type="architect",
    result_kind="document",
    is_read_only=True,
    tools=READING_TOOLS,
    instructions="""
The user wants a plan, not code. Work out how the change should be made in this repository, so \
that an engineer who has not read the code can carry it out step by step without deciding anything \
important. Find out how the code is built today before you design; say which parts stay, which \
change, and where the new parts belong. Prefer the smallest design that meets the need and grows \
in the direction the code already has. Weigh at least one real alternative.""",
    done="""
The plan says what is wanted, how things are now (with files and lines), the design with its \
reasons, and small steps in a good order, each of which leaves the software working and can be \
checked. Every file it names was looked at or is marked as new. Risks and open questions are named \
honestly.""",
    checklist="""
1. Does the design meet every demand of the task, and nothing beyond it?
2. Is each claim about the present code read from the code? Do the named files and functions exist?
3. Can each step be done and checked on its own, in this order, with the software working after it?
4. What else touches these parts (callers, data that is stored already, configuration, deployment, \
documentation, security, speed)? Is it in the plan?
5. Is there a simpler design? If you rejected it, does the plan say why?
6. Are data migration, compatibility and the way back covered where they matter?""",
    fields={
        "title": text_field("The plan's title.", longest=200),
        "goal": text_field("What is to be reached, and what is out of scope."),
        "current_state": text_field("How it works today, with files and lines.", longest=20_000),
        "design": text_field("The design and its reasons, in Markdown.", longest=40_000),
        "alternatives": text_field("What else was considered and why it was not taken."),
        "steps": {
            "type": "array",
            "maxItems": 40,
            "items": STEP,
            "description": "The steps in order; files with add, modify or delete.",
        },
        "testing": text_field("How the whole is tested."),
        "risks": text_field("What can go wrong, and how it is seen and undone."),
        "open_questions": text_field("What a person must decide."),
    },
    required=("title", "goal", "current_state", "design", "steps", "testing", "risks"),
    refuse=refuse,
    make=make,
)
