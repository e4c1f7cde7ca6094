"""``make run``: one process starts an instance, shows it at work, and takes it all down again."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from asynccoder.tests.processes import ROOT, answers, ending_with_us, free_port, wait_for

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]


@dataclass
class Instance:
    """A launched instance and what it has printed."""

    popen: subprocess.Popen[bytes]
    printed: Path
    var_dir: Path
    url: str

    def text(self) -> str:
        return self.printed.read_text()

    def wait_until_running(self) -> None:
        wait_for(lambda: "Stop  " in self.text() or self.popen.poll() is not None, seconds=240)
        assert self.popen.poll() is None, self.text()

    def processes(self) -> dict[int, str]:
        """Return the command line of every living process that knows this data folder."""
        found = {int(path.name): self._mentions(path) for path in Path("/proc").glob("[0-9]*")}
        return {pid: line for pid, line in found.items() if line}

    def _mentions(self, pid: Path) -> str:
        try:
            if (pid / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return ""
            line = (pid / "cmdline").read_bytes()
            known = str(self.var_dir).encode() in line + (pid / "environ").read_bytes()
        except OSError:
            return ""
        return line.replace(b"\0", b" ").decode(errors="replace") if known else ""


class Launch:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Instance] = []

    def __call__(self, *arguments: str, **environment: str) -> Instance:
        port = free_port()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "ENVIRONMENT"}
        }
        given = {"PORT": str(port), "VAR_DIR": str(self.folder / "var"), **environment}
        printed = self.folder / f"printed-{len(self.started)}"
        with printed.open("wb") as output:
            popen = subprocess.Popen(
                ending_with_us([sys.executable, "-m", "asynccoder.launcher", *arguments]),
                cwd=ROOT,
                env=inherited | given,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        url = f"http://localhost:{port}"
        self.started.append(Instance(popen, printed, self.folder / "var", url))
        return self.started[-1]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    launched = Launch(tmp_path)
    yield launched
    for instance in launched.started:
        instance.popen.terminate()
        instance.popen.wait(60)
        for pid in instance.processes():
            os.kill(pid, signal.SIGKILL)


def test_a_first_run_shows_a_completed_task_and_a_second_keeps_it(launch: Launch) -> None:
    first = launch()
    first.wait_until_running()
    page = re.search(r"Its page +(\S+)", first.text())
    login = re.search(r"demo@example.com, password (\S+)", first.text())
    assert page is not None, first.text()
    assert login is not None
    assert "Task          completed" in first.text()
    private = [first.var_dir / name for name in ("db.sqlite3", "secrets", "log", "redis.sock")]
    assert [path.name for path in private if path.stat().st_mode & 0o077] == []
    with urllib.request.urlopen(f"{first.url}/sign-in/", timeout=60) as answer:
        assert answer.status == 200

    first.popen.send_signal(signal.SIGINT)
    assert first.popen.wait(60) == 0
    assert first.processes() == {}
    assert not answers(first.url)

    second = launch()
    second.wait_until_running()
    assert login.group(1) in second.text()
    assert page.group(1).rsplit("/tasks/")[1] in second.text()
    assert "Running a task" not in second.text()


def test_kill_9_of_the_launcher_leaves_no_process(launch: Launch) -> None:
    instance = launch("--no-demo")
    instance.wait_until_running()
    assert len(instance.processes()) >= 4
    instance.popen.kill()
    wait_for(lambda: instance.processes() == {}, what="every process has ended")


def test_a_killed_web_server_comes_back(launch: Launch) -> None:
    instance = launch("--no-demo")
    instance.wait_until_running()
    daphne = subprocess.run(
        ["pgrep", "--full", f"daphne.*--port {instance.url.rsplit(':')[-1]}"],
        capture_output=True,
        text=True,
        check=True,
    )
    os.kill(int(daphne.stdout), signal.SIGKILL)
    wait_for(lambda: "web was ended by SIGKILL; starting it again now" in instance.text())
    wait_for(lambda: answers(f"{instance.url}/health"), seconds=60)


def test_no_log_holds_a_token_of_an_address(launch: Launch) -> None:
    instance = launch("--no-demo")
    instance.wait_until_running()
    host = instance.url.removeprefix("http://")
    for path in ("/ws?token=canary-1", "/api/v1/tasks?token=canary-1", "/no-such?token=canary-1"):
        connection = http.client.HTTPConnection(host, timeout=60)
        upgrade = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        connection.request("GET", path, headers=upgrade if path.startswith("/ws") else {})
        connection.getresponse()
        connection.close()
    instance.popen.terminate()
    assert instance.popen.wait(60) == 0
    logs = {path.name: path.read_text() for path in (instance.var_dir / "log").iterdir()}
    assert set(logs) >= {"redis.log", "web.log", "worker.log"}
    assert [name for name, text in logs.items() if "canary" in text] == []
