"""documentation: better words, and not one changed line of code."""

from __future__ import annotations

from typing import Any

from tasks.agent.ports import Assignment, Bench
from tasks.modes.base import Mode, make_changes, refuse_untrue_status, text_field
from tasks.modes.documents import code_change


def refuse(arguments: dict[str, Any], bench: Bench, assignment: Assignment) -> str | None:
    """Refuse a change of anything but documents, docstrings and comments."""
    if problem := refuse_untrue_status(arguments, bench, assignment):
        return problem
    found = []
    for file in bench.changed_files():
        base, head = bench.show(file.path, at="base"), bench.show(file.path, at="head")
        if reason := code_change(file.path, base, head):
            found.append(f"- {file.path}: {reason}")
    if not found:
        return None
    listed = "\n".join(found)
    return (
        "A documentation task may change documents, docstrings and comments only. These changes "
        f"are something else; undo them (a fault that you saw belongs in `left_open`):\n{listed}"
    )


MODE = Mode(
    type="documentation",
    result_kind="code_changes",
    instructions="""
The user wants documentation. Write for the reader who comes to this code for the first time: what \
it is for, how it is used, what it promises, what surprises. Read the code and its tests before \
you describe them, and try every command and example that you write down. Follow the repository's \
own style (docstring format, headings, line length, language). Say why and what, not what each \
line plainly does. Prefer correcting wrong words to adding more of them. You may change document \
files, docstrings and comments; the platform compares the code itself before and after and refuses \
any other change.""",
    done="""
The documentation that was asked for is there, correct in every statement (checked against the \
code), found where a reader looks for it, and no code has changed.""",
    checklist="""
1. Is every statement true of the code as it is (names, parameters, defaults, errors, units)? View \
what you are not certain of.
2. Did you run each command and example? Do links and paths lead somewhere?
3. Is the important thing first, and is there a sentence that could go?
4. Does it fit the repository's style, and is nothing said twice?
5. Has anything but documents, docstrings and comments changed? Undo it.""",
    fields={
        "covered": text_field("What is documented now, file by file."),
        "left_open": text_field("Faults or contradictions in the code that you saw."),
    },
    refuse=refuse,
    make=make_changes(("covered", "Documented"), ("left_open", "Left open")),
)
