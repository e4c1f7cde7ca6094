"""analysis: figures that real tools measured, and a model's recommendations on top of them."""

from __future__ import annotations

from typing import Any

from tasks.agent.output import clip
from tasks.agent.ports import Assignment, Bench, Handback, Material
from tasks.analysis import markdown
from tasks.builtin.analysis import parts_asked_for, run_analysers
from tasks.modes.base import READING_TOOLS, Mode
from tasks.modes.citations import repository_path, shown_text

MOST = 12
REPORT_CHARACTERS = 24_000
PRIORITIES = ("high", "medium", "low")


def material(assignment: Assignment, bench: Bench) -> Material:
    """Measure the repository with the platform's analysers; each is a journalled step."""
    report = run_analysers(bench, parts=parts_asked_for(assignment))
    title = f"Measured in {markdown.text(assignment.repository)}"
    text = clip(markdown.report(report, title=title), REPORT_CHARACTERS)
    return Material(
        "The platform's analysers have measured the repository. These figures are the report's; "
        f"explain them, do not measure them again.\n\n{text}",
        report.data() | {"report": markdown.report(report, title=title)},
    )


def refuse(arguments: dict[str, Any], bench: Bench, assignment: Assignment) -> str | None:
    """Refuse recommendations that name files which do not exist."""
    missing = sorted(
        {
            path
            for item in arguments.get("recommendations", [])
            for path in item.get("paths", [])
            if shown_text(bench, path) is None
        }
    )
    if not missing:
        return None
    return (
        f"These files do not exist: {', '.join(missing[:20])}. Name only files that you looked at."
    )


def make(
    arguments: dict[str, Any], bench: Bench, assignment: Assignment, material: Material
) -> Handback:
    """Return the measured data with the model's recommendations in place of the general ones.

    ``recommendations`` are sentences, as the contract has them; ``advice`` holds them in full.
    """
    measured = dict(material.data)
    report = measured.pop("report", "")
    advice = [
        {**item, "paths": [repository_path(path) for path in item.get("paths", [])]}
        for item in arguments.get("recommendations", [])
    ]
    advice.sort(key=lambda item: PRIORITIES.index(item["priority"]))
    sentences = [f"{item['title']}: {item['detail']}" for item in advice]
    data = measured | {"advice": advice}
    if sentences:
        data["recommendations"] = sentences
    listed = "\n\n".join(_section(number, item) for number, item in enumerate(advice, 1))
    parts = [arguments["summary"], f"## Recommendations\n{listed}" if listed else "", report]
    return Handback(
        status=arguments["status"],
        summary=arguments["summary"],
        content="\n\n".join(part for part in parts if part),
        data=data,
        evidence=arguments.get("evidence", ""),
    )


def _section(number: int, item: dict[str, Any]) -> str:
    paths = ", ".join(f"`{path}`" for path in item["paths"])
    where = f"\n\n{paths}" if paths else ""
    return f"### {number}. {item['title']} ({item['priority']})\n{item['detail']}{where}"


MODE = Mode(
    type="analysis",
    result_kind="report",
    is_read_only=True,
    tools=READING_TOOLS,
    instructions="""
The platform has measured this repository with real tools; their figures come with the task. Turn \
them into advice: which few changes would improve this code most, why, and how. Look into the code \
behind the figures: a tool's finding may be a false alarm, one cause may be behind many findings, \
and the worst problem may be one that no tool measures. Do not repeat the tables, do not invent \
figures, and do not soften or inflate what was measured.""",
    done="""
The summary tells in a few sentences how the code stands, and each recommendation names a concrete \
change, where, why it matters here, and how much work it is, in the order in which you would do \
them. You have looked at the code behind each one.""",
    checklist="""
1. Did you read the code behind each recommendation, and is the finding behind it true?
2. Is each concrete enough to begin with tomorrow? Would the figures improve by it?
3. Is the order by what it brings for the effort? Is anything on the list only because a tool said so?
4. Are all figures in your text the measured ones?""",
    fields={
        "recommendations": {
            "type": "array",
            "maxItems": MOST,
            "description": "What to change, the most useful first.",
            "items": {
                "type": "object",
                "properties": {
                    "title": {"type": "string", "minLength": 5, "maxLength": 200},
                    "detail": {"type": "string", "minLength": 20, "maxLength": 3_000},
                    "priority": {"type": "string", "enum": list(PRIORITIES)},
                    "paths": {
                        "type": "array",
                        "maxItems": 20,
                        "items": {"type": "string", "minLength": 1, "maxLength": 1000},
                    },
                },
                "required": ["title", "detail", "priority"],
            },
        },
    },
    required=("recommendations",),
    refuse=refuse,
    make=make,
    material=material,
)
