"""Places in the code that a result names: they must exist."""

from __future__ import annotations

import posixpath
from typing import Any

from tasks.agent.ports import Bench


def citation_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "path": {"type": "string", "minLength": 1, "maxLength": 1000},
            "line": {"type": "integer", "minimum": 1},
            "end_line": {"type": "integer", "minimum": 1},
            "note": {"type": "string", "maxLength": 500, "description": "What this place shows."},
        },
        "required": ["path", "line"],
    }


def repository_path(path: str) -> str:
    """Return the path as git knows it; a model may begin it with ./ or /workspace/."""
    return posixpath.normpath(path.strip().removeprefix("/workspace/"))


def cited(citation: dict[str, Any]) -> dict[str, Any]:
    return {**citation, "path": repository_path(citation["path"])}


def shown_text(bench: Bench, path: str) -> str | None:
    """Return a file's text as it is now, or None where there is none."""
    name = repository_path(path)
    if name.startswith(("../", "/")):
        return None
    raw = bench.show(name, at="head")
    return None if raw is None else raw.decode("utf-8", "replace")


def line_count(bench: Bench, path: str) -> int | None:
    text = shown_text(bench, path)
    return None if text is None else len(text.split("\n")) - text.endswith("\n")
