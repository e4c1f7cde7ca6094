"""A unified diff, as git or ``diff -u`` write it, as files, hunks and lines.

It never raises: text that is no diff gives no files, a cut diff gives what it had.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

Sign = Literal[" ", "-", "+"]

HEADER = re.compile(r"^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@ ?(.*)$")
ESCAPES = {"n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "f": 12, "v": 11, '"': 34, "\\": 92}
SYMLINK, GITLINK = "120000", "160000"


@dataclass(slots=True)
class Line:
    """One line of a hunk; a number is None on the side where the line does not exist."""

    sign: Sign
    text: str
    old: int | None
    new: int | None
    has_end: bool = True


@dataclass(slots=True)
class Hunk:
    old_start: int
    new_start: int
    heading: str
    lines: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class FileDiff:
    """What happened to one file. ``note`` says what no hunk can: mode, binary, link."""

    old_path: str = ""
    new_path: str = ""
    status: Literal["added", "deleted", "modified", "renamed", "copied"] = "modified"
    old_mode: str = ""
    new_mode: str = ""
    is_binary: bool = False
    hunks: list[Hunk] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.new_path or self.old_path

    @property
    def added(self) -> int:
        return sum(line.sign == "+" for hunk in self.hunks for line in hunk.lines)

    @property
    def removed(self) -> int:
        return sum(line.sign == "-" for hunk in self.hunks for line in hunk.lines)

    @property
    def changed(self) -> int:
        return self.added + self.removed

    @property
    def notes(self) -> list[str]:
        """Return what the page says about the file beside its lines."""
        modes = {self.old_mode, self.new_mode}
        said = [
            (self.status in ("renamed", "copied"), f"{self.status} from {self.old_path}"),
            (self.is_binary, "binary file, not shown"),
            (SYMLINK in modes, "symbolic link: the line is where it points"),
            (GITLINK in modes, "submodule: the line is its commit"),
            (
                bool(self.old_mode and self.new_mode and self.old_mode != self.new_mode),
                f"mode {self.old_mode} → {self.new_mode}",
            ),
        ]
        return [text for holds, text in said if holds]


def parse(diff: str) -> list[FileDiff]:
    """Return the files of a unified diff in its order."""
    return list(_Parser(diff).files())


class _Parser:
    """Reads line by line; a hunk is over when its header's counts are used up."""

    def __init__(self, diff: str) -> None:
        self.lines = diff.split("\n")
        if self.lines and not self.lines[-1]:
            self.lines.pop()
        self.at = 0

    def files(self) -> Iterator[FileDiff]:
        current: FileDiff | None = None
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if self._begins(line, current):
                if current is not None:
                    yield current
                current = FileDiff()
            if current is not None:
                self._read(line, current)
            self.at += 1
        if current is not None:
            yield current

    def _begins(self, line: str, current: FileDiff | None) -> bool:
        if line.startswith("diff --git "):
            return True
        plain = line.startswith("--- ") and self._peek().startswith("+++ ")
        return plain and (current is None or bool(current.hunks))

    def _peek(self) -> str:
        return self.lines[self.at + 1] if self.at + 1 < len(self.lines) else ""

    def _read(self, line: str, file: FileDiff) -> None:
        found = HEADER.match(line)
        if found:
            self._hunk(found, file)
        elif not file.hunks:
            _header(line, file)

    def _hunk(self, found: re.Match[str], file: FileDiff) -> None:
        hunk = Hunk(int(found[1]), int(found[3]), found[5])
        place = _Place(hunk.old_start, hunk.new_start, int(found[2] or 1), int(found[4] or 1))
        file.hunks.append(hunk)
        while self.at + 1 < len(self.lines):
            text = self.lines[self.at + 1]
            if text.startswith("\\") and hunk.lines:
                hunk.lines[-1].has_end = False
            elif place.is_done or text[:1] not in ("", " ", "-", "+"):
                return
            else:
                hunk.lines.append(place.take(text))
            self.at += 1


@dataclass(slots=True)
class _Place:
    """Where in a hunk the reader is: the next numbers, and how many lines its header promised."""

    old: int
    new: int
    old_left: int
    new_left: int

    @property
    def is_done(self) -> bool:
        return self.old_left <= 0 and self.new_left <= 0

    def take(self, text: str) -> Line:
        sign = text[:1]
        in_old, in_new = sign != "+", sign != "-"
        line = Line(
            "+" if sign == "+" else "-" if sign == "-" else " ",
            text[1:],
            self.old if in_old else None,
            self.new if in_new else None,
        )
        self.old += in_old
        self.old_left -= in_old
        self.new += in_new
        self.new_left -= in_new
        return line


def _header(line: str, file: FileDiff) -> None:
    """Take one line of a file's header."""
    word, _, rest = line.partition(" ")
    if line.startswith("diff --git "):
        file.old_path, file.new_path = _both_paths(line[len("diff --git ") :])
    elif word in ("---", "+++"):
        _side(word, rest, file)
    elif line.startswith(("Binary files ", "GIT binary patch")):
        file.is_binary = True
    else:
        _extended(line, file)


def _side(word: str, rest: str, file: FileDiff) -> None:
    path = _path(rest.split("\t")[0])
    if path == "/dev/null":
        file.status = "added" if word == "---" else "deleted"
        if word == "+++" and not file.new_path:
            file.new_path = file.old_path
    elif word == "---":
        file.old_path = _stripped(path)
    else:
        file.new_path = _stripped(path)


def _extended(line: str, file: FileDiff) -> None:
    for prefix, status in (("new file mode ", "added"), ("deleted file mode ", "deleted")):
        if line.startswith(prefix):
            file.status = status  # type: ignore[assignment] # The two words are statuses.
            mode = line[len(prefix) :].strip()
            file.old_mode, file.new_mode = ("", mode) if status == "added" else (mode, "")
    for prefix, name in (("old mode ", "old_mode"), ("new mode ", "new_mode")):
        if line.startswith(prefix):
            setattr(file, name, line[len(prefix) :].strip())
    for prefix, status, name in (
        ("rename from ", "renamed", "old_path"), ("rename to ", "renamed", "new_path"),
        ("copy from ", "copied", "old_path"), ("copy to ", "copied", "new_path"),
    ):  # fmt: skip
        if line.startswith(prefix):
            file.status = status  # type: ignore[assignment] # The two words are statuses.
            setattr(file, name, _path(line[len(prefix) :]))
    if line.startswith("index ") and line.count(" ") == 2:
        file.old_mode = file.new_mode = file.new_mode or line.rsplit(" ", 1)[1].strip()


def _both_paths(rest: str) -> tuple[str, str]:
    """Split ``a/x b/x``; names with spaces are found by their equal halves."""
    if rest.startswith('"'):
        end = re.match(r'"(?:[^"\\]|\\.)*"', rest)
        first = end[0] if end else rest
        return _stripped(_path(first)), _stripped(_path(rest[len(first) :].strip()))
    half = (len(rest) - 1) // 2
    if rest[half : half + 1] == " " and rest[2:half] == rest[half + 3 :]:
        return rest[2:half], rest[half + 3 :]
    first, _, second = rest.partition(" b/")
    return _stripped(first), second


def _stripped(path: str) -> str:
    return path[2:] if path[:2] in ("a/", "b/", "i/", "w/", "c/", "o/") else path


def _path(text: str) -> str:
    """Return a path as git meant it: quoted names have C escapes of their bytes."""
    text = text.strip()
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    body = re.split(r"(\\[0-7]{3}|\\.)", text[1:-1])
    out = b"".join(_unescaped(part) for part in body)
    return out.decode("utf-8", "replace")


def _unescaped(part: str) -> bytes:
    if not part.startswith("\\"):
        return part.encode("utf-8", "surrogatepass")
    if len(part) == 4:
        return bytes([int(part[1:], 8) & 255])
    return bytes([ESCAPES.get(part[1:], 63)])


def cut(hunks: list[Hunk], lines: int) -> list[Hunk]:
    """Return the first lines of a file's hunks."""
    kept: list[Hunk] = []
    for hunk in hunks:
        if lines <= 0:
            break
        kept.append(replace(hunk, lines=hunk.lines[:lines]))
        lines -= len(hunk.lines)
    return kept
