"""Reading and applying patches: the "*** Begin Patch" format and unified diffs.

A patch is applied to texts in memory; the caller writes the files only when all of it fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

FILE_HEAD = re.compile(r"\*\*\* (Add|Update|Delete) File: (.+)")
HUNK_HEAD = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
MOST_FILES = 100


class PatchFailed(Exception):
    """The patch cannot be read or does not fit; the message says where."""


@dataclass(slots=True)
class Hunk:
    """Lines to find and lines to put in their place; ``near`` is the first line's likely index."""

    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    near: int | None = None
    anchor: str = ""
    """A line after which the old lines are looked for (the text after "@@")."""
    is_at_end: bool = False
    loose: int = 0
    """How many empty lines without a sign it ends with."""


@dataclass(slots=True)
class FilePatch:
    """What happens to one file."""

    path: str
    kind: Literal["add", "update", "delete"]
    hunks: list[Hunk] = field(default_factory=list)
    move_to: str = ""


def parse(text: str) -> list[FilePatch]:
    """Return the patch's files. Raises PatchFailed."""
    lines = text.replace("\r\n", "\n").split("\n")
    if any(line.startswith("*** Begin Patch") for line in lines):
        files = list(_parse_envelope(lines))
    else:
        files = list(_parse_unified(lines))
    if not files:
        raise PatchFailed(
            "No file was found in the patch. Begin with '*** Begin Patch' and "
            "'*** Update File: path', or with '--- a/path' and '+++ b/path'."
        )
    if len(files) > MOST_FILES:
        raise PatchFailed(f"The patch names {len(files)} files; at most {MOST_FILES} are taken.")
    return files


# --- the "*** Begin Patch" format ---------------------------------------------------------------


def _parse_envelope(lines: list[str]) -> Iterator[FilePatch]:
    patch: FilePatch | None = None
    for number, line in enumerate(lines, 1):
        head = FILE_HEAD.fullmatch(line.rstrip())
        if head:
            if patch is not None:
                yield patch
            patch = _new_file(head[1].lower(), head[2].strip())
        elif line.startswith("*** Move to: ") and patch is not None:
            patch.move_to = line.removeprefix("*** Move to: ").strip()
        elif line.startswith("*** End of File") and patch is not None and patch.hunks:
            patch.hunks[-1].is_at_end = True
        elif line.startswith("*** End Patch"):
            break
        elif patch is not None and not line.startswith("*** "):
            _add_line(patch, line, number)
    if patch is not None:
        yield patch


def _new_file(word: str, path: str) -> FilePatch:
    kinds: dict[str, Literal["add", "update", "delete"]] = {
        "add": "add", "update": "update", "delete": "delete",
    }  # fmt: skip
    patch = FilePatch(path, kinds[word])
    if patch.kind == "add":
        patch.hunks.append(Hunk())
    return patch


def _add_line(patch: FilePatch, line: str, number: int) -> None:
    if patch.kind == "delete":
        return
    if line.startswith("@@"):
        anchor = re.sub(r"^@@|@@$", "", line).strip()
        place = HUNK_HEAD.match(line)
        near = int(place[1]) - 1 if place else None
        patch.hunks.append(Hunk(near=near, anchor="" if place else anchor))
        return
    if not patch.hunks:
        patch.hunks.append(Hunk())
    _add_to_hunk(patch.hunks[-1], line, f"line {number} of the patch")


def _add_to_hunk(hunk: Hunk, line: str, where: str) -> None:
    sign, rest = line[:1], line[1:]
    hunk.loose = hunk.loose + 1 if not line else 0
    if sign == "+":
        hunk.new.append(rest)
    elif sign == "-":
        hunk.old.append(rest)
    elif sign in (" ", ""):
        hunk.old.append(rest)
        hunk.new.append(rest)
    elif sign != "\\":
        raise PatchFailed(f"{where} begins with neither ' ', '+' nor '-': {line[:80]!r}")


# --- unified diffs ------------------------------------------------------------------------------


def _parse_unified(lines: list[str]) -> Iterator[FilePatch]:
    index = 0
    while index < len(lines) - 1:
        if not (lines[index].startswith("--- ") and lines[index + 1].startswith("+++ ")):
            index += 1
            continue
        patch = _unified_file(_diff_path(lines[index]), _diff_path(lines[index + 1]))
        index = _read_hunks(lines, index + 2, patch)
        yield patch


def _diff_path(line: str) -> str:
    path = line[4:].split("\t")[0].strip()
    return path[2:] if path[:2] in ("a/", "b/") else path


def _unified_file(old: str, new: str) -> FilePatch:
    if old == "/dev/null":
        return FilePatch(new, "add")
    if new == "/dev/null":
        return FilePatch(old, "delete")
    return FilePatch(old, "update", move_to=new if new != old else "")


def _read_hunks(lines: list[str], index: int, patch: FilePatch) -> int:
    """Read the hunks of one file; return the index of the first line after them."""
    while index < len(lines):
        line = lines[index]
        is_next_file = (
            line.startswith("--- ")
            and lines[index + 1 : index + 2]
            and lines[index + 1].startswith("+++ ")
        )
        if line.startswith("diff ") or is_next_file:
            break
        if place := HUNK_HEAD.match(line):
            patch.hunks.append(Hunk(near=max(int(place[1]) - 1, 0)))
        elif patch.hunks and (line or index < len(lines) - 1):
            _add_to_hunk(patch.hunks[-1], line, f"line {index + 1} of the diff")
        index += 1
    return index


# --- applying -----------------------------------------------------------------------------------


def apply_hunks(text: str, patch: FilePatch) -> str:
    """Return the text with every hunk applied. Raises PatchFailed that quotes what was not found."""
    ending = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").split("\n")
    start, shift = 0, 0
    for number, hunk in enumerate(patch.hunks, 1):
        at = _find(lines, hunk, start, shift)
        if at is None:
            raise PatchFailed(_not_found(patch.path, number, hunk, lines))
        new = _with_original_context(lines[at : at + len(hunk.old)], hunk)
        lines[at : at + len(hunk.old)] = new
        shift += len(hunk.new) - len(hunk.old)
        start = at + len(hunk.new)
    return ending.join(lines)


def added_text(patch: FilePatch) -> str:
    """Return the content of a file that the patch adds."""
    lines = [line for hunk in patch.hunks for line in hunk.new]
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines) + "\n" if lines else ""


def _find(lines: list[str], hunk: Hunk, start: int, shift: int) -> int | None:
    """Return where the old lines are: exactly, else without regard to trailing blanks."""
    if hunk.anchor:
        start = next((i + 1 for i in range(start, len(lines)) if hunk.anchor in lines[i]), start)
    _drop_blank_end(hunk)
    if not hunk.old:
        return _insertion_point(lines, hunk, start, shift)
    for same in (str, str.rstrip):
        places = _places(lines, hunk, start, same)
        if hunk.near is not None and places:
            wanted = hunk.near + shift
            return min(places, key=lambda at: abs(at - wanted))
        if hunk.is_at_end and places:
            return places[-1]
        if len(places) > 1 and not hunk.anchor:
            raise PatchFailed(
                f"The lines of a hunk occur {len(places)} times (from line "
                f"{', '.join(str(at + 1) for at in places[:5])}); give more lines around them."
            )
        if places:
            return places[0]
    return None


def _drop_blank_end(hunk: Hunk) -> None:
    """Drop the empty lines without a sign that a patch's own end left in its last hunk."""
    if hunk.loose:
        del hunk.old[-hunk.loose :], hunk.new[-hunk.loose :]
        hunk.loose = 0


def _insertion_point(lines: list[str], hunk: Hunk, start: int, shift: int) -> int:
    if hunk.near is not None:
        return min(max(hunk.near + shift + 1, 0), len(lines))
    if hunk.anchor:
        return start
    return len(lines) - 1 if lines and not lines[-1] else len(lines)


def _places(lines: list[str], hunk: Hunk, start: int, same: Callable[[str], str]) -> list[int]:
    wanted = [same(line) for line in hunk.old]
    have = [same(line) for line in lines]
    return [
        at
        for at in range(start, len(have) - len(wanted) + 1)
        if have[at] == wanted[0] and have[at : at + len(wanted)] == wanted
    ]


def _with_original_context(found: list[str], hunk: Hunk) -> list[str]:
    """Return the new lines, with the file's own spelling of the lines that stay."""
    originals = dict(zip(hunk.old, found, strict=True))
    removed = set(hunk.old) - set(hunk.new)
    return [originals.get(line, line) if line not in removed else line for line in hunk.new]


def _not_found(path: str, number: int, hunk: Hunk, lines: list[str]) -> str:
    first = next((line for line in hunk.old if line.strip()), "")
    near = [str(i + 1) for i, line in enumerate(lines) if first and first.strip() == line.strip()]
    hint = f" Its first line is at line {', '.join(near[:5])}." if near else ""
    quoted = "\n".join(hunk.old[:12])
    return f"{path}: hunk {number} was not found.{hint} It looks for:\n{quoted}"
