"""A PostgreSQL of the campaign's own, which it may stop and kill. Knows no Django."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from asynccoder.tests.processes import descendants, ending_with_us, free_port, wait_for

START_SECONDS = 60.0


def tools() -> Path | None:
    """Return the folder of the newest PostgreSQL that is installed here, if there is one."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


class OwnPostgres:
    """A server on a free port of loopback, in a folder that ``running_postgres`` has made."""

    def __init__(self, binaries: Path, data: Path) -> None:
        self._binaries = binaries
        self._data = data
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self._port}/postgres"

    def make(self) -> None:
        command = ["initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust"]
        subprocess.run(self._command(command), cwd="/", capture_output=True, check=True)

    def start(self) -> None:
        # Only processes die here, never the machine: what was written is there without fsync.
        command = ["postgres", "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self._port)]
        command += ["-k", str(self._data), "-c", "fsync=off"]
        # Its own child: whoever else had it might not reap it, and it would seem to run for ever.
        self._process = subprocess.Popen(
            ending_with_us(self._command(command)), cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait_for(self._answers, seconds=START_SECONDS, what="PostgreSQL answers")

    def stop(self) -> None:
        """End it as a restart does: every connection is cut."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)

    def kill(self) -> None:
        """Kill -9 all of its processes at once."""
        if not self._process:
            return
        below = descendants(self._process.pid)
        self._process.kill()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(START_SECONDS)
        wait_for(lambda: not any(map(_is_alive, below)), what="PostgreSQL is dead")

    def _command(self, words: list[str]) -> list[str]:
        command = [str(self._binaries / words[0]), *words[1:]]
        if os.geteuid() != 0:
            return command
        # It refuses to be root.
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url):
            return True
        return False


@contextlib.contextmanager
def running_postgres() -> Iterator[OwnPostgres | None]:
    """Make a server and run it while the block lasts; None where PostgreSQL is not installed."""
    binaries = tools()
    if binaries is None:
        yield None
        return
    data = Path(tempfile.mkdtemp(prefix="asynccoder-postgres-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(data, user.pw_uid, user.pw_gid)
    server = OwnPostgres(binaries, data)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(data, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
