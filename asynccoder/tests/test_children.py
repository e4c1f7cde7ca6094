"""The launcher's processes start again when they die and end when it ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asynccoder.launcher import children
from asynccoder.launcher.children import Child
from asynccoder.tests.processes import ROOT, wait_for

# Starts a child that leaves a grandchild in a session of its own, and prints both ids.
FAMILY = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(grandchild.pid, flush=True)
time.sleep(60)
"""
PARENT = """
import os, sys, time
from asynccoder.launcher import children
children.adopt_orphans()
read, write = os.pipe()
child = children.start([sys.executable, "-c", sys.argv[1]], environment=dict(os.environ), output=write)
print(child.pid, int(os.read(read, 20)), flush=True)
if sys.argv[2] == "end":
    children.end(child, seconds=5)
    children.end_orphans()
else:
    time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def make_child(tmp_path: Path, program: str) -> Child:
    return Child("part", [sys.executable, "-c", program], tmp_path / "part.log", dict(os.environ))


def tend_until_death(child: Child) -> str:
    deaths: list[str] = []

    def has_died() -> bool:
        death = child.tend()
        deaths.extend([death] if death else [])
        return bool(deaths)

    wait_for(has_died)
    return deaths[0]


def test_a_dead_child_is_reported_and_started_again_later_each_time(tmp_path: Path) -> None:
    child = make_child(tmp_path, "print('no luck'); raise SystemExit(3)")
    child.start()
    assert "part ended with status 3; starting it again now" in tend_until_death(child)
    assert "again in 1 s" in tend_until_death(child)
    assert child.last_lines() == ["no luck", "no luck"]
    assert child.failures == 2


def test_a_child_killed_by_a_signal_is_reported_by_its_name(tmp_path: Path) -> None:
    child = make_child(tmp_path, "import time; time.sleep(60)")
    child.start()
    assert child.process is not None
    child.process.kill()
    assert "was ended by SIGKILL" in tend_until_death(child)


def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = make_child(tmp_path, program)
    child.end_seconds = 0.2
    child.start()
    wait_for(lambda: child.last_lines() == ["up"])
    process = child.process
    child.end()
    assert process is not None
    assert process.returncode == -signal.SIGKILL


def test_a_person_is_told_what_is_waited_for_and_may_hurry_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "PATIENCE_SECONDS", 0.1)
    program = """
import signal, sys, time
asked = []
def hear(*_):
    if asked:
        sys.exit(7)
    asked.append(1)
    print("asked", flush=True)
signal.signal(15, hear)
print("up", flush=True)
while True:
    time.sleep(0.05)
"""
    child = make_child(tmp_path, program)
    child.end_seconds, child.slow_end = 600, "It takes its time."
    child.start()
    wait_for(lambda: child.last_lines() == ["up"])
    process = child.process
    asked, said = [1], []

    def say(words: str) -> None:
        said.append(words)
        # Of two signals that come before it looks it would hear one.
        wait_for(lambda: child.last_lines()[-1] == "asked")
        asked.append(2)

    child.end(asked=lambda: asked[-1], say=say)
    assert process is not None
    assert (process.returncode, said) == (7, ["It takes its time."])


def test_one_that_does_not_hurry_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "HURRY_SECONDS", 0.2)
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = make_child(tmp_path, program)
    child.end_seconds = 600
    child.start()
    wait_for(lambda: child.last_lines() == ["up"])
    process = child.process
    # Asked twice before its turn has come.
    child.end(asked=lambda: 2)
    assert process is not None
    assert process.returncode == -signal.SIGKILL


def test_a_log_that_grew_too_long_is_cut_and_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOG_BYTES_MAX", 100)
    child = make_child(tmp_path, "import time; print('x' * 200, flush=True); time.sleep(60)")
    child.start()
    wait_for(lambda: child.tend() or (tmp_path / "part.log.1").exists())
    assert (tmp_path / "part.log.1").read_text().startswith("x" * 200)
    assert child.log.stat().st_size == 0
    child.end()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_kill_9_of_the_launcher_ends_its_child() -> None:
    with start_parent("stay") as parent:
        child, grandchild = read_pids(parent)
        assert is_alive(child)
        parent.kill()
    wait_for(lambda: not is_alive(child))
    os.kill(grandchild, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_CHILD_SUBREAPER is Linux's")
def test_an_ordered_end_leaves_no_descendant_of_any_depth() -> None:
    with start_parent("end") as parent:
        child, grandchild = read_pids(parent)
        assert parent.wait(60) == 0
    assert not is_alive(child)
    assert not is_alive(grandchild)


def start_parent(how: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", PARENT, FAMILY, how]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def read_pids(parent: subprocess.Popen[str]) -> list[int]:
    assert parent.stdout is not None
    return [int(word) for word in parent.stdout.readline().split()]
