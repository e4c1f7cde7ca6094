"""Nothing outlives its command, its sandbox or the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.sandbox import orphans
from tasks.sandbox.base import Command, SandboxLost
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.tests.sandboxes import eventually, make_place, shell

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bubblewrap]:
    with make_place(tmp_path_factory.mktemp("place")).sandbox() as sandbox:
        yield sandbox


def running(words: str) -> list[int]:
    """Return the host's processes whose arguments contain these words, side by side."""
    wanted = words.replace(" ", "\0").encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    "script",
    [
        "sleep {} & echo started",
        "setsid sleep {} & echo started",
        "(setsid sh -c 'sleep {} &' &) ; echo started",
        "trap '' HUP; nohup sleep {} >/dev/null 2>&1 & echo started",
        'python3 -c \'import os,time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); os.execlp("sleep","sleep","{}")\'; echo started',
    ],
)
def test_what_a_command_left_behind_is_gone(sandbox: Bubblewrap, script: str) -> None:
    number = f"31{time.monotonic_ns() % 10**6}"
    result = sandbox.run(shell(script.format(number)))
    assert (result.output, result.stopped, result.exit_code) == (b"started\n", "", 0)
    assert running(f"sleep {number}") == []


def test_a_plain_process_does_leave_it_behind() -> None:
    number = f"32{time.monotonic_ns() % 10**6}"
    subprocess.run(["sh", "-c", f"setsid sleep {number} >/dev/null 2>&1 &"], check=True)
    assert eventually(lambda: bool(running(f"sleep {number}")))
    for pid in running(f"sleep {number}"):
        os.kill(pid, signal.SIGKILL)


def test_stop_from_another_thread_ends_the_command(sandbox: Bubblewrap) -> None:
    threading.Timer(0.2, sandbox.stop).start()
    result = sandbox.run(shell("echo begun; sleep 60"))
    assert (result.stopped, result.exit_code, result.output) == ("cancelled", 137, b"begun\n")
    assert sandbox.run(shell("echo on")).output == b"on\n"


def test_stop_in_a_signal_handler_ends_the_command(sandbox: Bubblewrap) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: sandbox.stop())
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert sandbox.run(shell("sleep 60")).stopped == "cancelled"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_stop_before_a_command_does_not_touch_it(sandbox: Bubblewrap) -> None:
    sandbox.stop()
    assert sandbox.run(shell("sleep 0.1; echo x")).stopped == ""


def test_leaving_the_sandbox_ends_everything(tmp_path: Path) -> None:
    number = f"33{time.monotonic_ns() % 10**6}"
    threading_errors: list[BaseException] = []

    def run(sandbox: Bubblewrap) -> None:
        try:
            sandbox.run(shell(f"sleep {number}"))
        except SandboxLost as error:
            threading_errors.append(error)

    with make_place(tmp_path).sandbox() as sandbox:
        worker = threading.Thread(target=run, args=(sandbox,))
        worker.start()
        assert eventually(lambda: bool(running(f"sleep {number}")))
        (init,) = init_of_this_process(number)
        os.kill(init, signal.SIGKILL)
        worker.join(60)
    assert [type(error) for error in threading_errors] == [SandboxLost]
    assert running(f"sleep {number}") == []


def init_of_this_process(number: str) -> list[int]:
    """Return the host's pid of the init above the command with this number."""
    (pid,) = [pid for pid in running(f"sleep {number}") if is_alone(pid)]
    while "init.py" not in Path(f"/proc/{pid}/cmdline").read_text():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return [pid]


def is_alone(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_text().startswith("sleep\0")


# --- kill -9 of the worker -----------------------------------------------------------------------

OWNER = """
import sys, os
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tasks.tests.sandboxes import make_place, shell
place = make_place(Path(sys.argv[2]))
print("begin", flush=True)
with place.sandbox() as sandbox:
    print("entered", flush=True)
    sandbox.run(shell("sleep %s" % sys.argv[3]))
"""


def start_owner(folder: Path, number: str) -> subprocess.Popen[bytes]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(ROOT), str(folder), number],
        stdout=subprocess.PIPE,
        env={
            name: value for name, value in os.environ.items() if name.startswith(("PATH", "PYTHON"))
        },
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"begin\n"
    return owner


def marked(pid: int) -> list[int]:
    """Return the processes of sandboxes that the (dead) process with this pid started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        owner = orphans._owner_of(int(path.parent.name))
        if owner is not None and owner.pid == pid:
            found.append(int(path.parent.name))
    return found


def kill(owner: subprocess.Popen[bytes]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout is not None
    owner.stdout.close()


def test_kill_9_of_the_worker_ends_a_running_command(tmp_path: Path) -> None:
    number = f"34{time.monotonic_ns() % 10**6}"
    owner = start_owner(tmp_path, number)
    assert eventually(lambda: bool(running(f"sleep {number}")))
    kill(owner)
    assert eventually(lambda: not running(f"sleep {number}") and not marked(owner.pid))


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05])
def test_kill_9_of_the_worker_while_it_starts_a_sandbox(tmp_path: Path, delay: float) -> None:
    number = f"35{time.monotonic_ns() % 10**6}"
    owner = start_owner(tmp_path, number)
    time.sleep(delay)
    kill(owner)
    # A bubblewrap that waits for ever in its set-up is the reaper's, as at a worker's start.
    gone = eventually(lambda: not marked(owner.pid), seconds=2)
    if not gone:
        assert running(f"sleep {number}") == [], "no tenant's code may run in it"
        orphans.reap_orphans()
    assert eventually(lambda: not marked(owner.pid))


def test_the_reaper_ends_what_a_dead_owner_left_and_nothing_else(sandbox: Bubblewrap) -> None:
    with subprocess.Popen(["true"]) as gone:
        dead = orphans.Owner(orphans.Owner.this_process().namespace, gone.pid, 1)
    alive = orphans.Owner.this_process()
    elsewhere = orphans.Owner(4, dead.pid, 1)
    left = [
        subprocess.Popen(["sh", "-c", "sleep 60; :", owner.marker])
        for owner in (dead, alive, elsewhere)
    ]
    try:
        assert eventually(lambda: all(orphans._owner_of(process.pid) for process in left))
        assert orphans.reap_orphans() >= 1
        assert left[0].wait(60) == -signal.SIGKILL
        assert [process.poll() for process in left[1:]] == [None, None]
        assert sandbox.run(Command(["echo", "unharmed"])).output == b"unharmed\n"
    finally:
        for process in left:
            process.kill()
            process.wait()


def test_the_sandbox_ends_with_the_thread_that_started_it(tmp_path: Path) -> None:
    """Why ``with`` belongs on a thread that lives as long: the kernel ties one to the other."""
    sandbox = make_place(tmp_path).sandbox()
    starter = threading.Thread(target=sandbox.__enter__)
    starter.start()
    starter.join()
    with pytest.raises(SandboxLost):
        eventually(lambda: sandbox.run(Command(["true"])).exit_code != 0)
    sandbox.__exit__()
