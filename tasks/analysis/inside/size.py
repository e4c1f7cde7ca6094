"""Count lines. Request: {"paths": [path]}; answer: {path: [lines, lines with text]}."""

from __future__ import annotations

import json
import sys
from pathlib import Path

LARGEST = 5_000_000


def count(path: str) -> list[int] | None:
    """Return a text file's lines and its lines with text; None for anything else."""
    file = Path(path)
    if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
        return None
    content = file.read_bytes()
    if b"\0" in content[:8192]:
        return None
    lines = content.splitlines()
    return [len(lines), sum(bool(line.strip()) for line in lines)]


def main() -> None:
    counted = {path: count(path) for path in json.load(sys.stdin)["paths"]}
    json.dump({path: lines for path, lines in counted.items() if lines}, sys.stdout)


if __name__ == "__main__":
    main()
