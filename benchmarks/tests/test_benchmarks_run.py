"""Each benchmark runs in its small size and prints every case and goal; no time is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from asynccoder.tests.processes import ROOT, ending_with_us

HELD = {
    "loop": {
        "ours, 3 steps", "ours, each changes a file, 3 steps", "http.client loop, 3 steps",
        "ours, what a checkpoint adds", "ours, start", "ours, worker, RSS", "ours, 10 steps",
        "step at 3 steps", "growth over 10 steps", "ours, 12 steps",
    },
    "sandbox": {
        "bash -c true, plain", "the same in a new sandbox", "the same in the kept sandbox",
        "a command in a new sandbox", "a command in the kept sandbox",
    },
    "workspace": {
        "ours, warm: generated, 20 commits", "clone --depth 1: generated, 20 commits",
        "ours, first time: generated, 20 commits", "ready: generated, 20 commits",
        "new disk: generated, 20 commits",
    },
    "live": {
        "ours, burst to 100 sockets", "bare websockets, burst to 500 sockets",
        "ours, paced to 1 stream", "raw ASGI, burst to 1 stream", "live, paced to 50 streams",
    },
    "signin": {"an account", "no account", "medians apart", "Mann-Whitney |z|"},
    "endtoend": {
        "POST accepted to first model request", "claimed to first model request",
        "POST accepted to first model request, p50",
    },
}  # fmt: skip


PARTS = {
    "loop": {"event", "money: charged", "sandbox: command", "git index-pack", "whole"},
    "sandbox": {"bubblewrap: namespaces and mounts", "the init and its watch", "the command"},
    "endtoend": {"sandbox: start", "git ls-remote", "database: statement", "whole"},
}


def lines_of(name: str, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks", name, "--quick", *options]
    command = ending_with_us(command)
    # What is measured while its lines are counted takes nearly twice as long and tells nothing.
    environment = {name: os.environ[name] for name in os.environ if "COVERAGE" not in name}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PARTS)
def test_a_profile_names_its_parts(name: str) -> None:
    lines = lines_of(name, "--profile")
    assert {line["part"] for line in lines} >= PARTS[name]
    assert all(isinstance(line["ms"], float) for line in lines)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HELD)
def test_a_benchmark_prints_its_cases_and_goals(name: str) -> None:
    lines = lines_of(name, "--rounds", "1")
    assert {line.get("case") or line["goal_of"] for line in lines} >= HELD[name]
    assert all("ok" in line for line in lines if "goal_of" in line)
