"""The fork server: one process group a run, and nothing is left when the worker dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from asynccoder.tests.processes import wait_for

WORKER = """
import os, subprocess, sys, time
from pathlib import Path
from tasks import forkserver
from tasks.forkserver import ForkServer

folder = Path(sys.argv[1])

def run(name, generation, is_stopping):
    if name == "patient":
        child = subprocess.Popen(["sleep", "60"])
        while not is_stopping():
            time.sleep(0.02)
        (folder / "patient").write_text(str(child.poll()))
        return
    if name == "quick":
        (folder / "quick").write_text(str(generation))
        return
    if name == "prepared":
        (folder / "prepared").write_text(f"{prepared} {os.getppid()}")
        return
    if name == "broken":
        raise RuntimeError("broken")
    if name == "spreading":
        for depth in range(3):
            if os.fork():
                time.sleep(60)
            os.setsid()
            (folder / f"{name}-{depth}").write_text(str(os.getpid()))
    grandchild = os.fork()
    (folder / f"{name}-{'child' if grandchild == 0 else 'run'}").write_text(str(os.getpid()))
    time.sleep(60)

prepared = []

def prepare():
    prepared.append(os.getpid())
    (folder / f"preparation-{len(prepared)}").touch()

forkserver.IDLE_SECONDS = 0
def fail():
    raise OSError("nothing is prepared")

server = ForkServer(run, [prepare, fail, prepare])
server.start()
print("ready", flush=True)
for line in sys.stdin:
    word, argument = line.split()
    if word == "run":
        try:
            pid, last = server.spawn(argument, 7)
        except ChildProcessError:
            pid = -1
        print("pid", pid, flush=True)
    elif word == "wait":
        forkserver.ANSWER_SECONDS = float(argument)
        print("server", server.pid, flush=True)
    elif word == "stop":
        server.ask_to_stop(int(argument))
    elif word == "kill":
        server.kill(int(argument))
    elif word == "status":
        print("status", last.result(60), flush=True)
"""


class Talk:
    """A worker process of this test that obeys lines."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.hear() == ["ready"]

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> list[str]:
        assert self.process.stdout
        return self.process.stdout.readline().split()

    def ask(self, line: str) -> int:
        self.say(line)
        return int(self.hear()[1])

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def pid_in(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text(), what=str(path))
    return int(path.read_text())


def test_a_run_ends_with_its_status(tmp_path: Path) -> None:
    with Talk(tmp_path) as talk:
        talk.ask("run quick")
        assert talk.ask("status now") == 0
        assert (tmp_path / "quick").read_text() == "7"
        talk.ask("run broken")
        assert os.waitstatus_to_exitcode(talk.ask("status now")) == 1


def test_what_the_server_has_prepared_is_there_in_every_run(tmp_path: Path) -> None:
    with Talk(tmp_path) as talk:
        server = talk.ask("wait 20")
        wait_for((tmp_path / "preparation-2").exists, what="both preparations are done")
        for _ in range(2):
            talk.ask("run prepared")
            assert talk.ask("status now") == 0
            assert (tmp_path / "prepared").read_text() == f"{[server, server]} {server}"


def test_killing_a_run_ends_its_group_and_no_other(tmp_path: Path) -> None:
    with Talk(tmp_path) as talk:
        talk.ask("run other")
        pid = talk.ask("run mine")
        child = pid_in(tmp_path / "mine-child")
        talk.say(f"kill {pid}")
        assert os.waitstatus_to_exitcode(talk.ask("status now")) == -signal.SIGKILL
        wait_for(lambda: not is_alive(child), what="the run's child ends")
        assert is_alive(pid_in(tmp_path / "other-run"))


def test_a_run_has_ended_when_nothing_is_left_that_it_started(tmp_path: Path) -> None:
    with Talk(tmp_path) as talk:
        pid = talk.ask("run spreading")
        below = [pid_in(tmp_path / f"spreading-{depth}") for depth in range(3)]
        below.append(pid_in(tmp_path / "spreading-child"))
        talk.say(f"kill {pid}")
        assert os.waitstatus_to_exitcode(talk.ask("status now")) == -signal.SIGKILL
        assert [pid for pid in below if is_alive(pid)] == []


def test_a_run_is_asked_to_stop_and_nothing_that_it_started(tmp_path: Path) -> None:
    with Talk(tmp_path) as talk:
        # Asked before its program has begun, too: nothing waits for that here.
        pid = talk.ask("run patient")
        talk.say(f"stop {pid}")
        assert talk.ask("status now") == 0
        assert (tmp_path / "patient").read_text() == "None"


def test_an_answer_that_comes_too_late_is_not_taken_for_another(tmp_path: Path) -> None:
    with Talk(tmp_path) as talk:
        server = talk.ask("wait 0.5")
        os.kill(server, signal.SIGSTOP)
        assert talk.ask("run late") == -1
        os.kill(server, signal.SIGCONT)
        late = pid_in(tmp_path / "late-run")
        assert talk.ask("wait 20") == server
        assert talk.ask("run next") == pid_in(tmp_path / "next-run") != late


def test_a_run_is_refused_at_once_when_the_fork_server_is_gone(tmp_path: Path) -> None:
    with Talk(tmp_path) as talk:
        os.kill(talk.ask("wait 20"), signal.SIGKILL)
        assert talk.ask("run one") == -1
        assert talk.ask("run two") == -1


def test_nothing_is_left_after_kill_9_of_the_worker(tmp_path: Path) -> None:
    with Talk(tmp_path) as talk:
        talk.ask("run mine")
        run = pid_in(tmp_path / "mine-run")
        assert is_alive(run)
        talk.process.kill()
        wait_for(lambda: not is_alive(run), what="the run ends with its worker")
