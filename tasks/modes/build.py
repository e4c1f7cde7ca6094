"""build: a whole piece of software, in a repository, from given files, or from nothing."""

from __future__ import annotations

from tasks.modes.base import Mode, refuse_untrue_status
from tasks.modes.implement import CHECKLIST, FIELDS, MAKE

MODE = Mode(
    type="build",
    result_kind="code_changes",
    is_checked=True,
    instructions="""
The user describes software to build. The workspace may hold a project to extend, some given files \
to start from, or nothing at all. In an empty workspace lay out a small, conventional project for \
the language and framework asked for (or the one that fits best): source, tests, a README with the \
commands to install, run and test, a dependency file, a .gitignore. Build the smallest version \
that does all that was asked, working from end to end, before you polish any part. There is no \
network: prefer the standard library and what is installed; name other dependencies in the \
dependency file and keep the code that needs them testable without them. No placeholders: nothing \
that says TODO, returns made-up data or only pretends to work.""",
    done="""
The software does everything that was asked, you started it and used it the way its user will, its \
tests run and pass here, and a stranger can install, run and test it with the README alone.""",
    checklist=CHECKLIST
    + """
9. Stranger: does the README's every command work from a fresh copy? Is every file that the code \
needs in the workspace, and nothing generated (caches, build output, secrets)?""",
    fields=FIELDS,
    required=("how_to_try",),
    refuse=refuse_untrue_status,
    make=MAKE,
)
