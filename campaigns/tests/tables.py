"""Running a campaign as a person would, and keeping the document that holds its table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from asynccoder.tests.processes import ROOT, ending_with_us

DOCUMENT = ROOT / "docs" / "security.md"
SECONDS = 1800


def run_campaign(name: str, folder: Path, *, count: int) -> str:
    """Run the small size of a campaign and return the document with its table.

    Raises AssertionError with the losses.
    """
    written = folder / "security.md"
    written.write_text(DOCUMENT.read_text())
    # On servers that are named, this table would be written twice.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TEST_")}
    command = [sys.executable, "-m", "campaigns", name, "--count", str(count)]
    command += ["--write", str(written)]
    done = subprocess.run(
        ending_with_us(command), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.partition("\nLosses")[2] + done.stderr[-4000:]
    return written.read_text()


def bring_up_to_date(text: str) -> None:
    """Write the document anew where it differs, and fail, so that the change is seen."""
    if text != DOCUMENT.read_text():
        fresh = DOCUMENT.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(DOCUMENT)
        raise AssertionError(f"{DOCUMENT.name} held an older table; it is up to date now")


def rows_of(text: str, name: str) -> list[list[str]]:
    """Return the cells of a campaign's table."""
    table = text.split(f"<!-- campaign {name} -->")[1].split(f"<!-- end of {name} -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
