r"""Terminal output as HTML: colours become class names, every other escape is dropped.

``\r`` overwrites, ``\b`` steps back, "erase line" erases; cursor moves, titles, links and what
else a terminal would obey are removed. Reordering and invisible characters are written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from asynccoder.templatetags.display import visible

PARSED_CHARACTERS = 200_000
"""Of a longer text the tail is parsed, the rest is shown plain."""

COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<args>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c\n]*(?:\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?|\x9b[0-?]*"
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
SPECIAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Style = frozenset[str]
Cell = tuple[str, Style]
PLAIN: Style = frozenset()


def to_html(text: str) -> SafeString:
    """Return safe HTML of terminal output: text nodes, line ends and ``<span class>`` only."""
    head, tail = text[:-PARSED_CHARACTERS], text[-PARSED_CHARACTERS:]
    shown = _plain(_without_escapes(head)) if head else ""
    if not SPECIAL.search(tail):
        return mark_safe(shown + _plain(tail))  # noqa: S308 - both parts are escaped
    lines = _render(tail.replace("\r\n", "\n"))
    return mark_safe(shown + "\n".join(lines))  # noqa: S308 - every run is escaped in _line_html


def to_text(text: str) -> str:
    """Return the text without any escape sequence or control character."""
    return _without_escapes(text)


def _plain(text: str) -> str:
    return escape(visible(text))


def _without_escapes(text: str) -> str:
    return CONTROL.sub("", SEQUENCE.sub("", text)).replace("\r", "")


def _render(text: str) -> Iterator[str]:
    style = PLAIN
    for line in text.split("\n"):
        cells, style = _cells(line, style)
        yield _line_html(cells)


def _cells(line: str, style: Style) -> tuple[list[Cell], Style]:
    """Return what stands on the line after all overwriting, and the style that goes on."""
    cells: list[Cell] = []
    column = position = 0
    for match in SEQUENCE.finditer(line):
        column = _write(cells, column, line[position : match.start()], style)
        position = match.end()
        if match["final"] == "m":
            style = _next_style(style, match["args"])
        elif match["final"] == "K":
            _erase(cells, column, match["args"])
    _write(cells, column, line[position:], style)
    return cells, style


def _write(cells: list[Cell], column: int, text: str, style: Style) -> int:
    for character in text:
        if character == "\r":
            column = 0
        elif character == "\b":
            column = max(0, column - 1)
        elif not CONTROL.match(character):
            cells[column : column + 1] = [(character, style)]
            column += 1
    return column


def _erase(cells: list[Cell], column: int, argument: str) -> None:
    if argument in ("", "0"):
        del cells[column:]
    elif argument in ("1", "2"):
        end = len(cells) if argument == "2" else min(column + 1, len(cells))
        cells[:end] = [(" ", PLAIN)] * end


def _next_style(style: Style, arguments: str) -> Style:
    codes = [int(code) if code.isdigit() else 0 for code in re.split("[;:]", arguments)[:32]]
    while codes:
        code = codes.pop(0)
        if code in (38, 48):
            del codes[: {5: 2, 2: 4}.get(codes[0] if codes else 0, 0)]
        else:
            style = _after_code(style, code)
    return style


def _after_code(style: Style, code: int) -> Style:
    named = {1: "a-bold", 2: "a-dim", 4: "a-under"}
    if code == 0:
        return PLAIN
    if code in named:
        return style | {named[code]}
    if code == 22:
        return style - {"a-bold", "a-dim"}
    if code == 24:
        return style - {"a-under"}
    if code == 39 or 30 <= code <= 37 or 90 <= code <= 97:
        kept = frozenset(name for name in style if name in named.values())
        return kept if code == 39 else kept | {_colour(code)}
    return style


def _colour(code: int) -> str:
    return f"a-{COLOURS[code - 90]} a-bright" if code >= 90 else f"a-{COLOURS[code - 30]}"


def _line_html(cells: list[Cell]) -> str:
    parts = []
    for style, run in groupby(cells, key=lambda cell: cell[1]):
        text = _plain("".join(character for character, _ in run))
        names = " ".join(sorted(style))
        parts.append(f'<span class="{names}">{text}</span>' if names else text)
    return "".join(parts)
