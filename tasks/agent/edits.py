"""The tools that change files: edit and apply_patch."""

from __future__ import annotations

import ast
import difflib
import json
import tomllib
import warnings
from typing import Any

from aimodels.providers.base import ToolSpec
from tasks.agent.output import INVISIBLE, failed, visible
from tasks.agent.patches import FilePatch, PatchFailed, added_text, apply_hunks, parse
from tasks.agent.ports import ToolResult
from tasks.agent.toolbox import BadPath, Tool, Workbench, inside, schema

CHECKED_CHARACTERS = 1_000_000
COMPARED_LINES = 5_000
CONTEXT = 3


def edit(workbench: Workbench, arguments: dict[str, Any]) -> ToolResult:
    """Replace text that occurs exactly once, or make a new file from an empty old text."""
    path = _file(arguments["path"])
    old, new = arguments["old"], arguments["new"]
    if not old:
        return _create(workbench, path, new)
    text = _decoded(workbench.sandbox.read(path))
    old, new = _in_the_files_endings(text, old, new)
    if old == new:
        return failed("The old and the new text are the same: nothing would change.")
    count = text.count(old)
    if count != 1:
        return failed(_not_unique(path, text, old) if count else _not_found(path, text, old))
    at = text.index(old)
    changed = text[:at] + new + text[at + len(old) :]
    workbench.sandbox.write(path, _encoded(changed))
    first = text.count("\n", 0, at) + 1
    shown = _snippet(changed, first, first + new.count("\n"))
    report = f"Edited {path}:\n{shown}{_syntax_note(path, changed)}"
    return ToolResult(report, summary=f"Edited {path}:{first}")


def _create(workbench: Workbench, path: str, new: str) -> ToolResult:
    try:
        present = workbench.sandbox.read(path)
    except FileNotFoundError:
        present = b""
    if present:
        return failed(f"{path} exists already. Give the text to replace in `old`.")
    workbench.sandbox.write(path, _encoded(new))
    lines = len(new.splitlines())
    report = f"Created {path} ({lines} lines).{_syntax_note(path, new)}"
    return ToolResult(report, summary=f"Created {path}")


def _file(path: str) -> str:
    relative = inside(path)
    if relative == "." or path.endswith("/"):
        raise BadPath(f"{path} is a folder, not a file.")
    return relative


def _decoded(raw: bytes) -> str:
    """Return the text of a file; bytes that are no UTF-8 survive the way there and back."""
    return raw.decode("utf-8", "surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _in_the_files_endings(text: str, old: str, new: str) -> tuple[str, str]:
    """Return both texts with the file's own line endings, which a model does not see."""
    if "\r\n" in text and "\r\n" not in old:
        return old.replace("\n", "\r\n"), new.replace("\r\n", "\n").replace("\n", "\r\n")
    return old, new


def _not_unique(path: str, text: str, old: str) -> str:
    at = text.find(old)
    lines: list[str] = []
    while at != -1 and len(lines) < 10:
        lines.append(str(text.count("\n", 0, at) + 1))
        at = text.find(old, at + 1)
    return (
        f"The old text occurs more than once in {path} (at lines {', '.join(lines)}). "
        "Nothing was changed. Give more lines around it, so that it is unique."
    )


def _not_found(path: str, text: str, old: str) -> str:
    """Say that the old text is not there, and quote the lines of the file that come nearest."""
    hint = _nearest(text, old)
    hidden = (
        "\nThe file holds invisible characters there; use bash to change them."
        if (INVISIBLE.search(hint))
        else ""
    )
    near = f" The nearest lines are:\n{hint}" if hint else ""
    return f"The old text was not found in {path}. Nothing was changed.{visible(near)}{hidden}"


def _nearest(text: str, old: str) -> str:
    lines, wanted = text.splitlines()[:COMPARED_LINES], old.splitlines()
    anchor = next((line for line in wanted if line.strip()), "")
    stripped = [line.strip() for line in lines]
    close = difflib.get_close_matches(anchor.strip(), stripped, n=1, cutoff=0.6) if anchor else []
    if not close:
        return ""
    at = stripped.index(close[0])
    return _numbered(lines, at, min(at + max(len(wanted), 1), at + 15))


def _numbered(lines: list[str], start: int, end: int) -> str:
    return "\n".join(f"{i + 1:6}\t{lines[i][:400]}" for i in range(start, min(end, len(lines))))


def _snippet(text: str, first: int, last: int) -> str:
    """Return the changed lines with a little around them; the middle of a long change is left out."""
    lines = text.splitlines()
    start, end = max(first - 1 - CONTEXT, 0), min(last + CONTEXT, len(lines))
    if end - start <= 40:
        return visible(_numbered(lines, start, end).replace("\r", ""))
    top, bottom = _numbered(lines, start, start + 15), _numbered(lines, end - 15, end)
    return visible(f"{top}\n   …\n{bottom}".replace("\r", ""))


def _syntax_note(path: str, text: str) -> str:
    problem = syntax_problem(path, text)
    return f"\n\nWarning: {path} does not parse now: {problem}" if problem else ""


def syntax_problem(path: str, text: str) -> str:
    """Return why a Python, JSON or TOML text does not parse, or "" (also for other files)."""
    if len(text) > CHECKED_CHARACTERS:
        return ""
    try:
        if path.endswith((".py", ".pyi")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(text)
        elif path.endswith(".json"):
            json.loads(text)
        elif path.endswith(".toml"):
            tomllib.loads(text)
    except SyntaxError as error:
        return f"{error.msg} (line {error.lineno})"
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)[:200] or type(error).__name__
    return ""


# --- apply_patch --------------------------------------------------------------------------------


def apply_patch(workbench: Workbench, arguments: dict[str, Any]) -> ToolResult:
    """Apply a patch to all of its files, or to none."""
    try:
        planned = _plan(workbench, parse(arguments["patch"]))
    except PatchFailed as error:
        return failed(f"The patch was not applied; nothing was changed. {visible(str(error))}")
    for path, text in planned.items():
        if text is None:
            workbench.run("rm", "-f", "--", path)
        else:
            workbench.sandbox.write(path, _encoded(text))
    words = [f"{'Deleted' if text is None else 'Wrote'} {path}" for path, text in planned.items()]
    notes = [_syntax_note(path, text) for path, text in planned.items() if text is not None]
    report = "\n".join(words) + "".join(notes)
    return ToolResult(report, summary=f"Patched {', '.join(planned)}"[:200])


def _plan(workbench: Workbench, files: list[FilePatch]) -> dict[str, str | None]:
    """Return every file's text after the patch, None for one that goes. Raises PatchFailed."""
    planned: dict[str, str | None] = {}
    for patch in files:
        path = _file(patch.path)
        present = planned[path] if path in planned else _present(workbench, path)
        if patch.kind == "add":
            if present is not None:
                raise PatchFailed(f"{path} exists already; use '*** Update File' to change it.")
            planned[path] = added_text(patch)
            continue
        if present is None:
            raise PatchFailed(f"There is no file {path}.")
        planned[path] = None if patch.kind == "delete" else apply_hunks(present, patch)
        if patch.move_to:
            planned[_file(patch.move_to)] = planned[path]
            planned[path] = None
    return planned


def _present(workbench: Workbench, path: str) -> str | None:
    try:
        return _decoded(workbench.sandbox.read(path))
    except FileNotFoundError:
        return None


EDIT = Tool(
    ToolSpec(
        "edit",
        "Replace one piece of a file. `old` must occur exactly once in the file, letter for letter "
        "with its indentation and without line numbers; include a few lines around the change to "
        "make it unique. An empty `old` creates a new file with `new` as its content. The answer "
        "shows the changed lines and warns when Python, JSON or TOML no longer parses.",
        schema(
            ["path", "old", "new"],
            path={"type": "string", "description": "Path in the workspace.", "maxLength": 1000},
            old={
                "type": "string",
                "description": "The exact text to replace; empty for a new file.",
            },
            new={"type": "string", "description": "The text to put in its place."},
        ),
    ),
    edit,
    changes=True,
)

APPLY_PATCH = Tool(
    ToolSpec(
        "apply_patch",
        "Change several places or files at once. Takes either the format '*** Begin Patch' / "
        "'*** Update File: path' (also Add File, Delete File, Move to) / '@@' / lines beginning with "
        "' ', '-' or '+' / '*** End Patch', or a unified diff. All of it is applied, or nothing.",
        schema(["patch"], patch={"type": "string", "minLength": 1}),
    ),
    apply_patch,
    changes=True,
)
