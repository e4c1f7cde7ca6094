"""Reading commits: differences, files, trees. All from bare repositories, nothing executed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from repositories.git.command import Bounds, Call, git, run
from repositories.git.errors import GitFailed, GitTimedOut
from repositories.git.mirror import checked

PLAIN = ("--no-ext-diff", "--no-textconv", "--no-renames", "--no-color", "--ignore-submodules=none")
# An upstream's commit can be a bomb too: a few trees that name a billion files.
READING = Bounds(seconds=120, cpu=60, memory=1024**3)
CUT = "\n[The difference is longer than is shown here: cut after {} bytes.]\n"
HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
ESCAPE = re.compile(r"\\([0-7]{3}|.)")
LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
STATUSES: dict[str, Literal["added", "modified", "deleted"]] = {"A": "added", "D": "deleted"}
SENSITIVE = (
    re.compile(r"(^|/)\.github/(workflows|actions)/", re.I),
    re.compile(r"^\.(circleci|buildkite|woodpecker|forgejo|gitea)/", re.I),
    re.compile(r"(^|/)codeowners$", re.I),
    re.compile(r"(^|/)\.gitmodules$", re.I),
    re.compile(r"^(\.gitlab-ci\.ya?ml|\.travis\.ya?ml|azure-pipelines\.ya?ml|jenkinsfile)$", re.I),
    re.compile(r"^(bitbucket-pipelines\.ya?ml|\.drone\.ya?ml|appveyor\.ya?ml)$", re.I),
)


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One file of a difference; the counts are lines, 0 for binary files."""

    path: str
    status: Literal["added", "modified", "deleted"]
    added: int = 0
    removed: int = 0
    is_binary: bool = False


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One file of a tree. ``kind`` is "file", "link" or "submodule"; ``size`` is in bytes, or 0."""

    path: str
    kind: Literal["file", "link", "submodule"]
    is_executable: bool
    size: int
    name: str


def _reading(deadline: float) -> Bounds:
    left = max(deadline - time.monotonic(), 0.0)
    return replace(READING, seconds=min(left, READING.seconds))


def diff(store: Path, base: str, head: str, *, max_bytes: int, deadline: float = math.inf) -> str:
    """Return the unified diff; one that is longer is cut at a line's end and says so.

    Raises GitFailed; GitTimedOut, too, when the monotonic clock shows ``deadline``.
    """
    call = Call(
        args=["diff", *PLAIN, checked(base), checked(head), "--"],
        git_dir=store,
        bounds=replace(_reading(deadline), output=max_bytes),
    )
    finished = run(call)
    if finished.stopped == "timeout":
        raise GitTimedOut
    if finished.stopped != "output" and finished.exit_code:
        raise GitFailed(detail=finished.errors[-2000:])
    if len(finished.output) <= max_bytes:
        return finished.output.decode("utf-8", "replace")
    whole_lines = finished.output[:max_bytes].rpartition(b"\n")[0]
    return whole_lines.decode("utf-8", "replace") + CUT.format(max_bytes)


def changed_files(
    store: Path, base: str, head: str, *, deadline: float = math.inf
) -> list[ChangedFile]:
    """Return the files that differ between two commits, by path.

    Raises GitFailed; GitTimedOut, too, when the monotonic clock shows ``deadline``.
    """

    def listed(kind: str) -> list[bytes]:
        ends = (checked(base), checked(head), "--")
        told = git("diff", *PLAIN, kind, "-z", *ends, git_dir=store, bounds=_reading(deadline))
        return told.split(b"\0")[:-1]

    statuses, counts = listed("--name-status"), listed("--numstat")
    kinds = {
        path: status.decode() for status, path in zip(statuses[::2], statuses[1::2], strict=True)
    }
    files = []
    for line in counts:
        added, removed, path = line.split(b"\t", 2)
        files.append(
            ChangedFile(
                path.decode("utf-8", "replace"),
                STATUSES.get(kinds.get(path, "M"), "modified"),
                0 if added == b"-" else int(added),
                0 if removed == b"-" else int(removed),
                is_binary=added == b"-",
            )
        )
    return files


def changed_lines(store: Path, base: str, head: str) -> dict[str, frozenset[int]]:
    """Return, by path, the line numbers of ``head`` that the change added or touched."""
    found: dict[str, frozenset[int]] = {}
    for file in changed_files(store, base, head):
        if file.status != "deleted" and not file.is_binary and file.added:
            found[file.path] = frozenset()
    ends = (checked(base), checked(head), "--")
    text = git("diff", *PLAIN, "-U0", *ends, git_dir=store, bounds=READING)
    return found | _lines_by_path(text.decode("utf-8", "replace").split("\n"))


def _lines_by_path(lines: Sequence[str]) -> dict[str, frozenset[int]]:
    """Read a diff without context; a hunk's own lines are skipped by their count."""
    found: dict[str, set[int]] = {}
    path, position = "", 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if line.startswith("+++ "):
            path = _path_of(line)
        elif hunk := HUNK.match(line):
            removed, start, added = int(hunk[1] or 1), int(hunk[2]), int(hunk[3] or 1)
            position = _after_hunk(lines, position, removed + added)
            if path and added:
                found.setdefault(path, set()).update(range(start, start + added))
    return {name: frozenset(numbers) for name, numbers in found.items()}


def _path_of(line: str) -> str:
    name = line[4:].rstrip("\t")
    if name.startswith('"'):
        name = ESCAPE.sub(_unescaped, name[1:-1])
    return name.removeprefix("b/") if name != "/dev/null" else ""


def _unescaped(found: re.Match[str]) -> str:
    letter = found[1]
    return chr(int(letter, 8)) if letter.isdigit() else LETTERS.get(letter, letter)


def _after_hunk(lines: Sequence[str], position: int, remaining: int) -> int:
    while remaining and position < len(lines):
        remaining -= not lines[position].startswith("\\")
        position += 1
    return position


def show_file(store: Path, commit: str, path: str, *, max_bytes: int) -> bytes | None:
    """Return a file's bytes at a commit (of a symbolic link: its target).

    None where there is no such file, or it is larger than ``max_bytes``.
    """
    if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        return None
    listing = git("ls-tree", "-l", "-z", checked(commit), "--", path, git_dir=store)
    entries = [_entry(line) for line in listing.split(b"\0")[:-1]]
    for entry in entries:
        if entry and entry.path == path and entry.kind != "submodule" and entry.size <= max_bytes:
            return git(
                "cat-file", "blob", entry.name, git_dir=store, bounds=Bounds(output=max_bytes)
            )
    return None


def list_tree(store: Path, commit: str, *, max_entries: int = 100_000) -> list[TreeEntry]:
    """Return every file of a commit, by path, with no sizes: to tell them git opens every file.

    Raises OutputTooLarge for a boundless tree.
    """
    bounds = replace(READING, output=max_entries * 250)
    listing = git("ls-tree", "-r", "-z", checked(commit), git_dir=store, bounds=bounds)
    entries = [_entry(line) for line in listing.split(b"\0")[:-1]]
    return [entry for entry in entries if entry][:max_entries]


def _entry(line: bytes) -> TreeEntry | None:
    facts, path = line.split(b"\t", 1)
    mode, kind, name, *size = facts.decode().split()
    if kind == "tree":
        return None
    word: Literal["file", "link", "submodule"] = "submodule" if kind == "commit" else "file"
    return TreeEntry(
        path.decode("utf-8", "replace"),
        "link" if mode == "120000" else word,
        mode == "100755",
        int(size[0]) if size and size[0] != "-" else 0,
        name,
    )


def sensitive_changes(files: Sequence[str]) -> list[str]:
    """Return the paths whose change can run code elsewhere or move power: a person must agree."""
    return [path for path in files if any(pattern.search(path) for pattern in SENSITIVE)]
