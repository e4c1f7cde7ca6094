"""A diff as a page shows it: syntax colours, marked words, invisible characters written out.

Rendered on the server, within limits (dashboard.md, section 5): what is over them is folded,
says why, and is one link away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import pairwise

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType

from asynccoder.templatetags.display import visible
from tasks import diffparse
from tasks.diffparse import FileDiff, Hunk, Line

PAGE_LINES = 1_000
PAGE_FILES = 10
FOLD_CHANGED = 800
FILE_LINES = 3_000
LINE_CHARACTERS = 2_000
COLOURED_CHARACTERS = 60_000
"""Of one hunk; a longer one is shown without colours, so that no lexer holds a request up."""
MARKED_CHARACTERS = 400

# The languages whose lexers are run on strangers' text; everything else is shown plain.
LEXERS = {
    "py": "python", "pyi": "python", "js": "javascript", "mjs": "javascript", "cjs": "javascript",
    "jsx": "javascript", "ts": "typescript", "tsx": "typescript", "json": "json", "css": "css",
    "scss": "scss", "html": "html", "htm": "html", "xml": "xml", "svg": "xml", "yml": "yaml",
    "yaml": "yaml", "toml": "toml", "ini": "ini", "cfg": "ini", "sh": "bash", "bash": "bash",
    "c": "c", "h": "c", "cc": "cpp", "cpp": "cpp", "hpp": "cpp", "rs": "rust", "go": "go",
    "java": "java", "kt": "kotlin", "rb": "ruby", "php": "php", "sql": "sql", "cs": "csharp",
    "swift": "swift", "lua": "lua", "pl": "perl", "dockerfile": "docker", "makefile": "make",
}  # fmt: skip
CLASSES: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "com"), (String, "str"), (Number, "num"), (Keyword, "key"), (Operator.Word, "key"),
    (Name.Function, "fun"), (Name.Class, "fun"), (Name.Decorator, "fun"), (Name.Tag, "key"),
    (Name.Attribute, "fun"), (Name.Builtin.Pseudo, "key"),
)  # fmt: skip
GENERATED = re.compile(
    r"(^|/)(package-lock\.json|yarn\.lock|pnpm-lock\.yaml|poetry\.lock|uv\.lock|Cargo\.lock"
    r"|Gemfile\.lock|composer\.lock|go\.sum)$|\.min\.(js|css)$|\.(map|snap)$"
)
WORD = re.compile(r"\w+|\s+|.", re.DOTALL)

Piece = tuple[str, str]
Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class ShownLine:
    sign: str
    old: int | None
    new: int | None
    html: SafeString
    has_end: bool


@dataclass(frozen=True, slots=True)
class ShownHunk:
    heading: str
    lines: tuple[ShownLine, ...]


@dataclass(frozen=True, slots=True)
class ShownFile:
    """One file of the page; ``folded`` is the reason why its lines are not shown, or empty."""

    number: int
    path: str
    status: str
    added: int
    removed: int
    notes: tuple[str, ...]
    hunks: tuple[ShownHunk, ...]
    folded: str = ""
    left_out: int = 0


def show(diff: str, *, unfold: int = -1) -> list[ShownFile]:
    """Return every file of the diff; lines only within the page's limits and for ``unfold``."""
    shown: list[ShownFile] = []
    lines = files = 0
    for number, file in enumerate(diffparse.parse(diff)):
        size = sum(len(hunk.lines) for hunk in file.hunks)
        is_full = lines + size > PAGE_LINES or files >= PAGE_FILES
        reason = _why_folded(file, is_full=is_full) if number != unfold else ""
        if not reason and number != unfold:
            lines, files = lines + size, files + 1
        shown.append(_shown(number, file, folded=reason))
    return shown


def show_file(diff: str, number: int) -> ShownFile | None:
    """Return one file with its lines, whatever the page's limits; None if there is no such file."""
    files = diffparse.parse(diff)
    return _shown(number, files[number]) if 0 <= number < len(files) else None


def _why_folded(file: FileDiff, *, is_full: bool) -> str:
    if not file.hunks:
        return ""
    reasons = (
        (file.status == "deleted", "deleted"),
        (bool(GENERATED.search(file.path)), "lock or generated file"),
        (file.changed > FOLD_CHANGED, f"{file.changed:,} changed lines"),
        (is_full, "more than this page shows at once"),
    )
    return next((text for holds, text in reasons if holds), "")


def _shown(number: int, file: FileDiff, *, folded: str = "") -> ShownFile:
    hunks = [] if folded else diffparse.cut(file.hunks, FILE_LINES)
    total = sum(len(hunk.lines) for hunk in file.hunks)
    lexer = _lexer(file.path)
    return ShownFile(
        number=number,
        path=visible(file.path),
        status=file.status,
        added=file.added,
        removed=file.removed,
        notes=tuple(visible(note) for note in file.notes),
        hunks=tuple(_shown_hunk(hunk, lexer) for hunk in hunks),
        folded=folded,
        left_out=0 if folded else max(0, total - FILE_LINES),
    )


def _shown_hunk(hunk: Hunk, lexer: Lexer | None) -> ShownHunk:
    marks = _marks(hunk.lines)
    colours = _colours(hunk.lines, lexer)
    lines = tuple(
        ShownLine(
            line.sign, line.old, line.new,
            _html(colours.get(at) or [("", _cut(line.text))], marks.get(at, [])), line.has_end,
        )
        for at, line in enumerate(hunk.lines)
    )  # fmt: skip
    return ShownHunk(visible(_heading(hunk)), lines)


def _heading(hunk: Hunk) -> str:
    numbers = [line.new or line.old or 0 for line in hunk.lines]
    first = hunk.new_start or hunk.old_start
    span = f"{first}-{max(numbers)}" if numbers else str(first)
    return f"{span} · {hunk.heading}" if hunk.heading else span


def _cut(text: str) -> str:
    if len(text) <= LINE_CHARACTERS:
        return text
    return f"{text[:LINE_CHARACTERS]} … {len(text) - LINE_CHARACTERS:,} more characters"


# --- Colours ---------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _lexer_named(name: str) -> Lexer:
    return get_lexer_by_name(name, stripnl=False, ensurenl=False)


def _lexer(path: str) -> Lexer | None:
    name = path.rsplit("/", 1)[-1].lower()
    found = LEXERS.get(name) or LEXERS.get(name.rsplit(".", 1)[-1] if "." in name else "")
    return _lexer_named(found) if found else None


def _colours(lines: Sequence[Line], lexer: Lexer | None) -> dict[int, list[Piece]]:
    """Return coloured pieces by line; each side is read as a whole, so strings may span lines."""
    if lexer is None or sum(len(line.text) for line in lines) > COLOURED_CHARACTERS:
        return {}
    out: dict[int, list[Piece]] = {}
    for sides in (" -", " +"):
        places = [at for at, line in enumerate(lines) if line.sign in sides]
        text = "\n".join(lines[at].text.replace("\r", " ") for at in places)
        out |= dict(zip(places, _lines_of(lexer, text), strict=False))
    return {at: pieces for at, pieces in out.items() if _is_same(pieces, lines[at].text)}


def _is_same(pieces: list[Piece], text: str) -> bool:
    """Tell whether colouring kept the line as it is; a lexer must never change what is shown."""
    return len(text) <= LINE_CHARACTERS and "".join(piece for _, piece in pieces) == text


def _lines_of(lexer: Lexer, text: str) -> list[list[Piece]]:
    lines: list[list[Piece]] = [[]]
    for token, value in lexer.get_tokens(text):
        name = _class_of(token)
        first, *rest = value.split("\n")
        lines[-1].append((name, first))
        lines.extend([(name, part)] for part in rest)
    return lines


@lru_cache(maxsize=512)
def _class_of(token: _TokenType) -> str:
    # A token type is a tuple of names; a subtype begins with its parent's.
    return next((name for kind, name in CLASSES if token[: len(kind)] == kind), "")


# --- Marked words ----------------------------------------------------------------------------------


def _marks(lines: Sequence[Line]) -> dict[int, Spans]:
    """Return what changed inside lines that were replaced one for one."""
    marks: dict[int, Spans] = {}
    for removed, added in _blocks(lines):
        for old, new in zip(removed, added, strict=False):
            before, after = lines[old].text, lines[new].text
            if max(len(before), len(after)) > MARKED_CHARACTERS:
                continue
            marks[old], marks[new] = _changed_words(before, after)
    return marks


def _blocks(lines: Sequence[Line]) -> Iterator[tuple[list[int], list[int]]]:
    removed: list[int] = []
    added: list[int] = []
    for at, line in enumerate(lines):
        if line.sign == "-" and not added:
            removed.append(at)
        elif line.sign == "+" and removed:
            added.append(at)
        else:
            yield removed, added
            removed, added = ([at] if line.sign == "-" else []), []
    yield removed, added


def _changed_words(before: str, after: str) -> tuple[Spans, Spans]:
    """Return the changed spans of both lines; none where the lines have too little in common."""
    old, new = WORD.findall(before), WORD.findall(after)
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    if matcher.ratio() < 0.4:
        return [], []
    old_spans: Spans = []
    new_spans: Spans = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            old_spans += _span(old, a, b)
            new_spans += _span(new, c, d)
    return old_spans, new_spans


def _span(words: list[str], start: int, end: int) -> Spans:
    first = sum(map(len, words[:start]))
    length = sum(map(len, words[start:end]))
    return [(first, first + length)] if length else []


# --- HTML ------------------------------------------------------------------------------------------


def _html(pieces: Sequence[Piece], marks: Spans) -> SafeString:
    """Return the line's HTML: escaped text, ``<span class>`` for colours, ``<mark>`` for changes."""
    out: list[str] = []
    is_marked = False
    for name, text, inside in _split(pieces, marks):
        if inside != is_marked:
            out.append("<mark>" if inside else "</mark>")
            is_marked = inside
        shown = escape(visible(text))
        out.append(f'<span class="{name}">{shown}</span>' if name and not inside else shown)
    if is_marked:
        out.append("</mark>")
    return mark_safe("".join(out))  # noqa: S308 - every text is escaped above


def _split(pieces: Sequence[Piece], marks: Spans) -> Iterator[tuple[str, str, bool]]:
    """Cut the coloured pieces where a mark begins or ends."""
    at = 0
    for name, text in pieces:
        end = at + len(text)
        edges = sorted({at, end, *(edge for span in marks for edge in span if at < edge < end)})
        for start, stop in pairwise(edges):
            inside = any(first <= start < last for first, last in marks)
            yield name, text[start - at : stop - at], inside
        at = end
