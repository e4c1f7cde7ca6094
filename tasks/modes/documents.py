"""Telling a change of documentation from a change of code."""

from __future__ import annotations

import ast
import posixpath
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from pygments.lexers import get_lexer_for_filename
from pygments.token import Token

DOCUMENTS = (".md", ".markdown", ".mdx", ".rst", ".adoc", ".asciidoc", ".org", ".textile", ".pod")
NAMES = re.compile(
    r"(readme|changelog|changes|news|contributing|authors|license|licence|copying|notice)(\.txt)?",
    re.IGNORECASE,
)
FOLDERS = {"doc", "docs", "documentation", "man"}
IN_FOLDERS = (".txt", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".1", ".5", ".8")
WITH_COMMENTS = (
    ".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".go", ".rs", ".java", ".kt", ".scala", ".swift",
    ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".php", ".rb", ".sh", ".bash", ".sql", ".css",
    ".scss", ".lua", ".r", ".jl", ".ex", ".exs",
)  # fmt: skip
"""Languages whose code is compared without its comments, as Pygments reads them."""
CODE_IN_COMMENTS = (Token.Comment.Preproc, Token.Comment.PreprocFile, Token.Comment.Hashbang)
LARGEST = 2_000_000


def code_change(path: str, base: bytes | None, head: bytes | None) -> str:
    """Return why a change is more than documentation, or "" if it is not."""
    if base == head or is_document(path):
        return ""
    if head is None:
        return "the file was deleted"
    suffix = posixpath.splitext(path)[1].lower()
    if suffix in (".py", ".pyi"):
        return _compare(base or b"", head, python_code)
    if suffix in WITH_COMMENTS:
        return _compare(base or b"", head, lambda text: code_without_comments(path, text))
    return "this is no document, and its comments cannot be told from its content"


def is_document(path: str) -> bool:
    folder, name = posixpath.split(path.lower())
    if name.endswith(DOCUMENTS) or NAMES.fullmatch(name):
        return True
    return name.endswith(IN_FOLDERS) and bool(FOLDERS & set(folder.split("/")))


def _compare(base: bytes, head: bytes, code_of: Callable[[str], str]) -> str:
    if max(len(base), len(head)) > LARGEST:
        return "the file is too large to be compared"
    try:
        before, after = code_of(base.decode("utf-8")), code_of(head.decode("utf-8"))
    except UnicodeDecodeError:
        return "the file is not UTF-8, so its code cannot be compared"
    except SyntaxError as error:
        return f"the file does not parse (line {error.lineno}: {error.msg})"
    except (ValueError, RecursionError, MemoryError):
        return "the file cannot be parsed"
    return "" if before == after else "its code has changed, not only docstrings and comments"


# --- Python -------------------------------------------------------------------------------------


def python_code(text: str) -> str:
    """Return a Python file's syntax tree as text, without docstrings. Raises SyntaxError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return ast.dump(tree)


def _drop_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> None:
    match node.body:
        case [ast.Expr(ast.Constant(str())), *_]:
            del node.body[0]
    if not isinstance(node, ast.Module):
        # A body of nothing but a docstring is the same as one of nothing but `pass`.
        node.body = [one for one in node.body if not isinstance(one, ast.Pass)] or [ast.Pass()]


# --- other languages ----------------------------------------------------------------------------


def code_without_comments(path: str, text: str) -> str:
    """Return a source text without its comments, its blank lines and the blanks at line ends."""
    lexer = get_lexer_for_filename(posixpath.basename(path), stripnl=False, ensurenl=False)
    tokens: Iterable[tuple[Any, str]] = lexer.get_tokens(text.replace("\r\n", "\n"))
    kept = []
    for kind, value in tokens:
        # Preprocessor lines and the first line of a script count as comments there, but are code.
        is_comment = kind in Token.Comment and not any(kind in one for one in CODE_IN_COMMENTS)
        kept.append("\n" * value.count("\n") if is_comment else value)
    lines = (line.rstrip() for line in "".join(kept).split("\n"))
    return "\n".join(line for line in lines if line)
