"""Outline Python files. Request: {"paths": [path]}.

Answer: [{path, doc, error, items: [{kind, name, line, end, signature, doc, public}]}], where
``doc`` is a docstring's first line and a method's name is ``Class.method``.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from pathlib import Path

LARGEST = 1_000_000
Item = dict[str, object]
Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def first_line(node: ast.AST) -> str:
    doc = ast.get_docstring(node) if isinstance(node, (ast.Module, ast.ClassDef, *Function)) else ""
    return (doc or "").strip().split("\n")[0][:200]


def signature(node: ast.AST) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    if isinstance(node, Function):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        return f"{start} {node.name}({ast.unparse(node.args)}){returns}"
    return ""


def is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(one).split(".")[-1] in ("overload", "setter") for one in decorators)


def items(body: list[ast.stmt], owner: str = "", *, public: bool = True) -> list[Item]:
    """Return classes, functions and methods, also under module-level conditions."""
    found: list[Item] = []
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            found += items(node.body, owner, public=public)
        elif isinstance(node, (ast.ClassDef, *Function)) and not is_overload(node):
            open_name = public and not node.name.startswith("_")
            kind = "class" if isinstance(node, ast.ClassDef) else "method" if owner else "function"
            name = f"{owner}.{node.name}" if owner else node.name
            found.append({
                "kind": kind, "name": name, "line": node.lineno, "end": node.end_lineno,
                "signature": signature(node)[:400], "doc": first_line(node), "public": open_name,
            })  # fmt: skip
            if isinstance(node, ast.ClassDef):
                found += items(node.body, name, public=open_name)
    return found


def outline(path: str) -> dict[str, object]:
    file = Path(path)
    if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
        return {"path": path, "doc": "", "error": "not a regular file of fair size", "items": []}
    try:
        tree = ast.parse(file.read_bytes())
        return {"path": path, "doc": first_line(tree), "error": "", "items": items(tree.body)}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"path": path, "doc": "", "error": type(error).__name__, "items": []}


def main() -> None:
    warnings.simplefilter("ignore")
    json.dump([outline(path) for path in json.load(sys.stdin)["paths"]], sys.stdout)


if __name__ == "__main__":
    main()
