"""Documentation: a module overview in ``docs/OVERVIEW.md``, and what has no docstring.

The overview stands between two marks; what people write around them stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tasks.agent.ports import Assignment, Bench, Handback
from tasks.analysis import docstrings, lizard, markdown
from tasks.analysis.base import Unmeasured, is_test, language, list_files
from tasks.builtin import steps
from tasks.sandbox.base import Sandbox

PATH = "docs/OVERVIEW.md"
BEGIN, END = (
    "<!-- overview: made from the code, between these marks -->",
    "<!-- end of overview -->",
)
BETWEEN = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
PLAN = ("Read the code", "Write the overview")
MODULES = 400
Module = dict[str, Any]


def document(assignment: Assignment, bench: Bench) -> Handback:
    """Write the overview; data is {modules, undocumented, documented_percent, path}."""
    checklist = steps.Checklist(bench, PLAN)
    checklist.begin(0)
    try:
        work = steps.Work("outline", "Read the code", counted="module")
        modules = steps.compute(bench, work, lambda: _outline(bench.sandbox))
    except Unmeasured as reason:
        return Handback("blocked", f"There is nothing to document: {reason}.")
    checklist.begin(1)
    overview = write_overview(assignment.repository, modules)
    work = steps.Work("write_overview", f"Wrote {PATH}", {"path": PATH}, changes=True)
    is_changed = steps.compute(bench, work, lambda: _write(bench.sandbox, overview))
    checklist.finish()
    return _hand_back(modules, overview, is_changed=is_changed)


def _outline(sandbox: Sandbox) -> list[Module]:
    """Return Python modules by ast, and other sources with the functions that lizard sees."""
    tree = list_files(sandbox)
    python = [path for path in tree.python if not is_test(path)][:MODULES]
    others = [path for path in tree.sources if not path.endswith(".py") and not is_test(path)]
    if not python and not others:
        raise Unmeasured("there is no source code in a known language")
    modules = docstrings.outline(sandbox, python) if python else []
    return modules + (_other_modules(sandbox, others[:MODULES]) if others else [])


def _other_modules(sandbox: Sandbox, paths: Sequence[str]) -> list[Module]:
    try:
        functions = lizard.list_functions(sandbox)
    except Unmeasured:
        functions = []
    return [
        {
            "path": path,
            "doc": "",
            "error": "",
            "items": [
                {"kind": "function", "name": one["name"], "line": one["line"], "public": True,
                 "signature": one["name"], "doc": ""}
                for one in functions
                if one["path"] == path
            ],
        }
        for path in paths
    ]  # fmt: skip


def undocumented(modules: Sequence[Module]) -> list[dict[str, Any]]:
    """Return the public Python modules, classes and functions without a docstring."""
    found = []
    for module in modules:
        if not module["path"].endswith(".py"):
            continue
        if module["items"] and not module["doc"]:
            found.append(
                {"path": module["path"], "line": 1, "kind": "module", "name": module["path"]}
            )
        found += [
            {"path": module["path"]} | {key: item[key] for key in ("line", "kind", "name")}
            for item in docstrings.public_items(module)
            if not item["doc"]
        ]
    return found


def write_overview(repository: str, modules: Sequence[Module]) -> str:
    """Return the overview in Markdown, the same for the same code."""
    rows = [
        (f"[{markdown.code(one['path'])}](#{anchor(one['path'])})", language(one["path"]),
         markdown.text(one["doc"]) or "")
        for one in modules
    ]  # fmt: skip
    parts = [
        f"# Overview of {markdown.text(repository)}",
        markdown.table(("Module", "Language", "What it is for"), rows),
        *(_section(module) for module in modules if module["items"] or module["error"]),
        _undocumented_section(undocumented(modules)),
    ]
    return "\n\n".join(part for part in parts if part)


def anchor(path: str) -> str:
    """Return the anchor that Markdown renderers give a heading of this path."""
    return re.sub(r"[^\w-]", "", path.lower())


def _section(module: Module) -> str:
    lines = [f"## {markdown.code(module['path'])}"]
    if module["doc"]:
        lines.append(markdown.text(module["doc"]))
    if module["error"]:
        lines.append(f"This file could not be parsed ({module['error']}).")
    items = docstrings.public_items(module)
    if items:
        lines.append("\n".join(map(_item, items)))
    return "\n\n".join(lines)


def _item(item: dict[str, Any]) -> str:
    said = f": {markdown.text(item['doc'])}" if item["doc"] else ""
    indent = "  " * item["name"].count(".")
    return f"{indent}- {markdown.code(item['signature'])} (line {item['line']}){said}"


def _undocumented_section(silent: Sequence[dict[str, Any]]) -> str:
    if not silent:
        return ""
    lines = [
        f"- {markdown.place(one['path'], one['line'])} {one['kind']} {markdown.code(one['name'])}"
        for one in silent
    ]
    return "## Without a docstring\n\n" + "\n".join(lines)


def _write(sandbox: Sandbox, overview: str) -> bool:
    """Write the overview between its marks; return whether the file changed."""
    try:
        before = sandbox.read(PATH).decode("utf-8", "replace")
    except (OSError, ValueError):
        before = ""
    marked = f"{BEGIN}\n\n{overview}\n\n{END}"
    if BETWEEN.search(before):
        after = BETWEEN.sub(lambda _: marked, before, count=1)
    else:
        after = f"{before.rstrip()}\n\n{marked}\n".lstrip()
    if after != before:
        sandbox.write(PATH, after.encode())
    return after != before


def _hand_back(modules: Sequence[Module], overview: str, *, is_changed: bool) -> Handback:
    silent = undocumented(modules)
    public = sum(
        bool(module["items"]) + len(docstrings.public_items(module))
        for module in modules
        if module["path"].endswith(".py")
    )
    percent = round(100 * (public - len(silent)) / public, 1) if public else None
    data = {
        "path": PATH,
        "modules": len(modules),
        "undocumented": silent,
        "documented_percent": percent,
    }
    said = f"{len(silent)} of {public} public names have no docstring" if public else "no Python"
    if not is_changed:
        summary = f"{PATH} is up to date with {len(modules)} modules; {said}."
        return Handback("no_change_needed", summary, content=overview, data=data)
    summary = f"{PATH} describes {len(modules)} modules; {said}."
    return Handback("done", summary, content=overview, data=data)
