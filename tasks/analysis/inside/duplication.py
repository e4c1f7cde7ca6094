"""Find blocks of equal lines. Request: {"paths": [path], "least": lines of a block}.

Lines are compared without indentation; blank lines, comments, imports and lone brackets do not
count. A block is reported with the first place that holds the same lines.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

LARGEST = 1_000_000
NOTHING = re.compile(r"^(#.*|//.*|\*.*|/\*.*|import .*|from .* import.*|[\W_]*|else:?|try:|pass)$")
Line = tuple[int, str]


def significant(path: str) -> list[Line]:
    """Return the lines that count, each with its number."""
    file = Path(path)
    if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
        return []
    lines = enumerate(file.read_text("utf-8", "replace").splitlines(), 1)
    stripped = ((number, line.strip()) for number, line in lines)
    return [(number, line) for number, line in stripped if not NOTHING.match(line)]


def length_of_match(one: list[Line], i: int, other: list[Line], j: int) -> int:
    """Return how many lines agree from i and j on, without running into itself."""
    most = min(len(one) - i, len(other) - j)
    if one is other:
        most = min(most, i - j)
    length = 0
    while length < most and one[i + length][1] == other[j + length][1]:
        length += 1
    return length


def find(files: dict[str, list[Line]], least: int) -> list[dict[str, object]]:
    """Return blocks {path, line, end, lines, twin, twin_line} in order of path and line."""
    first: dict[tuple[str, ...], tuple[str, int]] = {}
    blocks: list[dict[str, object]] = []
    for path, lines in files.items():
        i = 0
        while i + least <= len(lines):
            window = tuple(text for _, text in lines[i : i + least])
            twin, j = first.setdefault(window, (path, i))
            length = length_of_match(lines, i, files[twin], j) if (twin, j) != (path, i) else 0
            if length < least:
                i += 1
                continue
            blocks.append({
                "path": path, "line": lines[i][0], "end": lines[i + length - 1][0],
                "lines": length, "twin": twin, "twin_line": files[twin][j][0],
            })  # fmt: skip
            i += length
    return blocks


def main() -> None:
    request = json.load(sys.stdin)
    files = {path: significant(path) for path in request["paths"]}
    blocks = find(files, request["least"])
    answer = {"blocks": blocks, "lines": sum(map(len, files.values()))}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
