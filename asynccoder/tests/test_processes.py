"""What tests and campaigns start does not outlive them."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from asynccoder.tests.processes import ROOT, ending_with_us

STARTER = """
import subprocess, sys, time
from asynccoder.tests.processes import ending_with_us
command = ["sh", "-c", "echo $$; exec sleep 600"]
command = ending_with_us(command) if sys.argv[1] == "ends" else command
subprocess.Popen(command, start_new_session=True)
time.sleep(600)
"""


def start_and_kill(how: str) -> tuple[int, int]:
    """Kill a process that has started another in its own session; return that one and a handle."""
    command = [sys.executable, "-c", STARTER, how]
    environment = os.environ | {"ASYNCCODER_TEST_CHILD": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as starter:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        handle = os.pidfd_open(pid)
        starter.kill()
    return pid, handle


def has_ended(handle: int, *, seconds: float) -> bool:
    return bool(select.select([handle], [], [], seconds)[0])


@pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv on this machine")
def test_what_is_started_ends_with_a_killed_starter() -> None:
    _, handle = start_and_kill("ends")
    assert has_ended(handle, seconds=60)
    os.close(handle)


def test_without_that_it_would_go_on() -> None:
    """The control."""
    pid, handle = start_and_kill("stays")
    assert not has_ended(handle, seconds=0.5)
    os.kill(pid, 9)
    assert has_ended(handle, seconds=60)
    os.close(handle)


def test_a_thread_that_ends_would_end_it_so_it_is_not_asked_for() -> None:
    command = ["sleep", "600"]
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(ending_with_us, command).result() == command
