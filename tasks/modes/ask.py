"""ask: answer a question about the code, with citations that exist."""

from __future__ import annotations

from typing import Any, TypedDict

from tasks.agent.ports import Assignment, Bench, Handback, Material
from tasks.modes.base import READING_TOOLS, Mode
from tasks.modes.citations import citation_schema, cited, line_count


class AskData(TypedDict):
    """The ``data`` of an answer."""

    answer: str
    citations: list[dict[str, Any]]


def refuse(arguments: dict[str, Any], bench: Bench, assignment: Assignment) -> str | None:
    """Refuse citations of files or lines that do not exist, and an answer without any."""
    citations = arguments.get("citations", [])
    problems = [problem for one in citations if (problem := _problem(one, bench))]
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        return f"These citations do not hold; look the places up and correct them:\n{listed}"
    if arguments["status"] == "done" and not citations:
        return "The answer cites no place. Cite the files and lines that it rests on."
    return None


def _problem(citation: dict[str, Any], bench: Bench) -> str:
    path, line = citation["path"], citation["line"]
    last = citation.get("end_line", line)
    lines = line_count(bench, path)
    if lines is None:
        return f"{path}: there is no such file"
    if last < line:
        return f"{path}:{line}-{last}: the last line is before the first"
    return f"{path}:{last}: the file has only {lines} lines" if last > lines else ""


def make(
    arguments: dict[str, Any], bench: Bench, assignment: Assignment, material: Material
) -> Handback:
    answer = arguments.get("answer") or arguments["summary"]
    citations = [cited(one) for one in arguments.get("citations", [])]
    data: AskData = {"answer": answer, "citations": citations}
    places = "\n".join(_listed(one) for one in citations)
    content = f"{answer}\n\n### Sources\n{places}" if places else answer
    return Handback(
        status=arguments["status"],
        summary=arguments["summary"],
        content=content,
        data=dict(data),
        evidence=arguments.get("evidence", ""),
    )


def _listed(citation: dict[str, Any]) -> str:
    last = citation.get("end_line", citation["line"])
    lines = f"{citation['line']}" if last == citation["line"] else f"{citation['line']}-{last}"
    note = f": {citation['note']}" if citation.get("note") else ""
    return f"- `{citation['path']}:{lines}`{note}"


MODE = Mode(
    type="ask",
    result_kind="answer",
    is_read_only=True,
    tools=READING_TOOLS,
    instructions="""
The user asks about this repository. Answer the question that was asked, from the code as it is \
here and not from what such projects usually do. Every statement about the code rests on a place \
that you have read; cite it. Say plainly where the code does not answer the question, where it \
contradicts its own documentation, and where the question assumes something that is not so.""",
    done="""
The question is answered completely and directly, each statement about the code is backed by a \
citation of a file and line that you have read, and what you are not sure of is marked as such. \
`no_change_needed` does not apply here; use `done`. `blocked` means that the answer cannot be found \
in this repository: say where you looked.""",
    checklist="""
1. Does the first sentence answer the question that was asked?
2. Is every statement about the code backed by a citation, and does each cited line really say it? \
View the ones you are not certain of.
3. What would make the answer wrong (another definition of the same name, configuration, a caller \
that differs)? Did you look?
4. Is anything in it a guess? Mark it or remove it.
5. Is it short enough for what was asked?""",
    fields={
        "answer": {
            "type": "string",
            "minLength": 1,
            "maxLength": 40_000,
            "description": "The complete answer in Markdown, beginning with the answer itself.",
        },
        "citations": {
            "type": "array",
            "maxItems": 40,
            "description": "The places that the answer rests on.",
            "items": citation_schema(),
        },
    },
    required=("answer", "citations"),
    refuse=refuse,
    make=make,
)
