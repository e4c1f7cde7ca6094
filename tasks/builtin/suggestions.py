"""A suggested change for one line, shown only if the file still parses with it."""

from __future__ import annotations

from typing import Any

from tasks.analysis.base import Unmeasured, run_tool
from tasks.analysis.ruff import Diagnosis
from tasks.sandbox.base import Sandbox

PARSE = "import ast, sys; ast.parse(sys.stdin.buffer.read())"


def suggest(sandbox: Sandbox, content: bytes, diagnosis: Diagnosis) -> str:
    """Return the line as ruff's fix makes it, or "" where the fix is not of this line alone."""
    try:
        lines = content.decode("utf-8").splitlines(keepends=True)
    except UnicodeDecodeError:
        return ""
    edits = (diagnosis.fix or {}).get("edits", [])
    row = diagnosis.line
    if not edits or row > len(lines) or any(_rows(edit) != (row, row) for edit in edits):
        return ""
    old = lines[row - 1]
    lines[row - 1] = _edited(old, edits)
    if lines[row - 1].strip() in ("", old.strip()) or not _parses(sandbox, "".join(lines)):
        return ""
    return lines[row - 1].rstrip("\r\n")


def _rows(edit: dict[str, Any]) -> tuple[int, int]:
    return edit["location"]["row"], edit["end_location"]["row"]


def _edited(line: str, edits: list[dict[str, Any]]) -> str:
    """Apply edits from the right to the left, so that columns stay true."""
    for edit in sorted(edits, key=lambda one: -int(one["location"]["column"])):
        start, end = edit["location"]["column"] - 1, edit["end_location"]["column"] - 1
        line = line[:start] + edit["content"] + line[end:]
    return line


def _parses(sandbox: Sandbox, text: str) -> bool:
    try:
        run_tool(
            sandbox, ["python3", "-I", "-c", PARSE], seconds=20, stdin=text.encode(), fine=(0,)
        )
    except Unmeasured:
        return False
    return True
