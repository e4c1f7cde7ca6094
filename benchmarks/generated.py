"""A generated repository: so many files and commits, always the same, with no download."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

WORDS = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "value",
    "result",
    "items",
    "total",
    "price",
    "index",
    "count",
    "name",
    "path",
    "line",
)
FILE_LINES = 400
"""On average: a tree of 2,000 files has 36 MB, as that of a large Python project."""
OBSERVED = "obs.txt"
"""A file of 1.5 kB that a scripted command reads."""


def make_repository(folder: Path, *, files: int, commits: int) -> Path:
    """Write the history with fast-import, pack it as a server does, and return the bare folder."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
    with subprocess.Popen(
        ["git", "-C", str(folder), "fast-import", "--quiet", "--depth=20"], stdin=subprocess.PIPE
    ) as importer:
        assert importer.stdin is not None
        for piece in _history(files, commits):
            importer.stdin.write(piece)
        importer.stdin.close()
        if importer.wait():
            raise RuntimeError("git fast-import failed")
    subprocess.run(["git", "-C", str(folder), "repack", "-adq", "--threads=1"], check=True)
    return folder


def _history(files: int, commits: int) -> Iterator[bytes]:
    chance = random.Random(1)
    paths = [
        f"package_{number % 40}/part_{number % 7}/module_{number}.py" for number in range(files)
    ]
    bodies = {
        path: [_line(chance) for _ in range(chance.randint(20, 2 * FILE_LINES))] for path in paths
    }
    yield _commit(0)
    yield _file(OBSERVED, ["x" * 99] * 15)
    for path, lines in bodies.items():
        yield _file(path, lines)
    for number in range(1, commits):
        yield _commit(number)
        for path in chance.sample(paths, 2):
            lines = bodies[path]
            lines[chance.randrange(len(lines))] = _line(chance)
            yield _file(path, lines)


def _line(chance: random.Random) -> str:
    left, *right = chance.choices(WORDS, k=5)
    return f"    {left}_{chance.randrange(1000)} = {'.'.join(right)}({chance.randrange(10**6)})"


def _commit(number: int) -> bytes:
    when = 1_600_000_000 + number * 3600
    message = f"Change {number}"
    return (
        f"commit refs/heads/main\ncommitter Alice <alice@example.com> {when} +0000\n"
        f"data {len(message)}\n{message}\n"
    ).encode()


def _file(path: str, lines: list[str]) -> bytes:
    content = "\n".join(lines).encode() + b"\n"
    return f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n"
