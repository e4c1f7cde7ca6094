"""Runs a campaign as an operator does, at its small size."""

from __future__ import annotations

import os
import subprocess
import sys

from asynccoder.tests.processes import ROOT, ending_with_us


def play(name: str, *, count: int) -> str:
    """Run the campaign on the servers that the tests run on; return its report.

    Fails on any exit status but 0, with what was said.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ASYNCCODER_")
    }
    done = subprocess.run(
        ending_with_us([sys.executable, "-m", "campaigns", name, "--count", str(count)]),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-5000:]}"
    assert "Losses: 0" in done.stdout
    return done.stdout
