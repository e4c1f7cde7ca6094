"""Find where names are used in Python. Request: {"paths": [path], "names": [name]}.

Answer: [{name, path, line, kind, text}] with kind "definition" (of a class or
function), "assignment", "import" or "use". A name with a
dot is looked for by its last part.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from pathlib import Path

LARGEST = 1_000_000
MOST = 400
Place = tuple[str, int, str]


def places(node: ast.AST) -> list[Place]:
    """Return (name, line, kind) for what a node defines or uses."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return [(node.name, node.lineno, "definition")]
    if isinstance(node, ast.Name):
        kind = "assignment" if isinstance(node.ctx, ast.Store) else "use"
        return [(node.id, node.lineno, kind)]
    if isinstance(node, ast.Attribute):
        kind = "assignment" if isinstance(node.ctx, ast.Store) else "use"
        return [(node.attr, node.end_lineno or node.lineno, kind)]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = {alias.name.split(".")[-1]: alias.lineno for alias in node.names}
        return [(name, line, "import") for name, line in names.items()]
    if isinstance(node, ast.keyword) and node.arg:
        return [(node.arg, node.lineno, "use")]
    return []


def find(path: str, names: frozenset[str]) -> list[dict[str, object]]:
    file = Path(path)
    if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
        return []
    content = file.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    lines = content.decode("utf-8", "replace").split("\n")
    seen = {place for node in ast.walk(tree) for place in places(node) if place[0] in names}
    return [
        {"name": name, "path": path, "line": line, "kind": kind,
         "text": lines[line - 1].strip()[:200] if line <= len(lines) else ""}
        for name, line, kind in sorted(seen, key=lambda place: (place[1], place[0], place[2]))
    ]  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    request = json.load(sys.stdin)
    names = frozenset(name.split(".")[-1] for name in request["names"])
    found = [place for path in request["paths"] for place in find(path, names)]
    json.dump(found[:MOST], sys.stdout)


if __name__ == "__main__":
    main()
