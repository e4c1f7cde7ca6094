"""Fixtures that run the platform's own processes on the test's database and Redis."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from django.conf import settings
from django.db import connection

from asynccoder import redis_server

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition: Callable[[], object], *, seconds: float = 60, what: str = "") -> None:
    """Return as soon as the condition holds; raise AssertionError when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of loopback that nobody has and that the system gives to nobody by itself.

    One of those it gives away could be another connection's before it is listened on.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def answers(url: str) -> bool:
    """Tell whether a redis server or, for http, a web server answers at all."""
    if url.startswith("http"):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
    with redis.Redis.from_url(url) as client, contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


def ending_with_us(command: list[str]) -> list[str]:
    """Return the command such that the kernel kills its process when this one ends (Linux).

    A run of tests or a campaign that is killed would leave its servers and workers behind.
    """
    # It ends with the thread that has started it; of threads, only the main one lasts.
    if threading.current_thread() is threading.main_thread() and (tool := shutil.which("setpriv")):
        return [tool, "--pdeathsig", "KILL", *command]
    return command


@contextlib.contextmanager
def running_redis(var_dir: Path) -> Iterator[str]:
    """Run a Redis of the caller's own and give its address; it may be flushed, paused or killed."""
    redis_server.prepare(var_dir)
    log = (var_dir / "redis.log").open("ab")
    command = ending_with_us(redis_server.command(var_dir))
    with log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        url = redis_server.url(var_dir)
        try:
            wait_for(lambda: answers(url), what="Redis answers")
            yield url
        finally:
            server.kill()


@pytest.fixture(scope="session", autouse=True)
def _redis_of_this_process() -> Iterator[None]:
    """Start the Redis of this pytest process; on a named one, remove the run's keys at the end."""
    if os.environ.get("TEST_REDIS_URL"):
        yield
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            for key in client.scan_iter(f"*{settings.REDIS_PREFIX}*", count=1000):
                client.delete(key)
    else:
        with running_redis(Path(os.environ["VAR_DIR"])):
            yield


@dataclass
class Process:
    """A process group that a test started, with its output in a file."""

    popen: subprocess.Popen[bytes]
    log: Path
    _below: list[int] = field(default_factory=list)
    """Handles of what ran below it when it was killed; their groups are others."""

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Signal the process alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill -9 the process alone, as the kernel does when memory is short."""
        self._hold_below()
        if self.popen.returncode is None:
            # Popen.kill would reap one that has just ended. Not reaped, it keeps its number until
            # its group is killed, too.
            os.kill(self.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def end(self) -> None:
        """Kill the process, its group and all that ran below it, and wait for their end.

        Whoever comes next may flush the database.
        """
        if self.popen.returncode is None:
            self._hold_below()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait(60)
        while self._below:
            handle = self._below.pop()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], 60)
            os.close(handle)

    def _hold_below(self) -> None:
        for pid in descendants(self.pid):
            with contextlib.suppress(OSError):
                self._below.append(os.pidfd_open(pid))


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below a process, parents before their children."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(entry.read_text().rsplit(")", 1)[1].split()[1])
            children[parent].append(int(entry.parent.name))
    found = [*children[pid]]
    for one in found:
        found += children[one]
    return found


StartProcess = Callable[..., Process]


def launch(command: list[str], environment: dict[str, str], log: Path) -> Process:
    """Start a process group of its own in the project's folder, with its output in a file."""
    with log.open("wb") as output:
        popen = subprocess.Popen(
            ending_with_us(command),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Process(popen, log)


def process_environment() -> dict[str, str]:
    """Return the environment in which a process sees this test's database, Redis and VAR_DIR."""
    database = settings.DATABASES["default"]
    name = str(connection.settings_dict["NAME"])
    if database["ENGINE"].endswith("sqlite3"):
        database_url = f"sqlite:///{name}"
    else:
        database_url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
    return os.environ | {
        "DATABASE_URL": database_url,
        "REDIS_URL": settings.REDIS_URL,
        "VAR_DIR": str(settings.VAR_DIR),
        "ASYNCCODER_TEST_CHILD": "1",
    }


@pytest.fixture
def start_process(transactional_db: None, tmp_path: Path) -> Iterator[StartProcess]:
    """Start ``python ARGUMENTS`` on the test's database; every process is killed after the test.

    Keyword arguments are further environment variables.
    """
    started: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        log = tmp_path / f"process-{len(started)}.log"
        command = [sys.executable, *arguments]
        started.append(launch(command, process_environment() | environment, log))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def worker_process(start_process: StartProcess) -> Callable[..., Process]:
    """Return a function that starts ``manage.py worker`` (environment as keyword arguments)."""
    return lambda **environment: start_process("manage.py", "worker", **environment)


@pytest.fixture
def server_process(start_process: StartProcess) -> str:
    """Run daphne on the test's database and return its base URL."""
    port = free_port()
    url = f"http://localhost:{port}"
    daphne = start_process(
        "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), "asynccoder.asgi:application",
        PORT=str(port), PUBLIC_URL=url,
    )  # fmt: skip
    wait_for(
        lambda: answers(f"{url}/health") or daphne.popen.poll() is not None, what="daphne answers"
    )
    assert daphne.popen.poll() is None, daphne.output()
    return url
