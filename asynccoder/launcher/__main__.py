"""Start everything: embedded Redis, database, web server, worker and the demo task."""

from __future__ import annotations

import argparse
import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from asynccoder import redis_server
from asynccoder.launcher import children, preflight
from asynccoder.launcher.children import Child
from asynccoder.launcher.options import BASE_DIR, Options, read

POLL_SECONDS = 0.1
READY_SECONDS = 90
FAILURES_MAX = 3
"""Deaths of a child, before everything is ready, after which the launcher gives up."""


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


def say(text: str) -> None:
    print(text, flush=True)


def probe(options: Options) -> int | None:
    """Return the HTTP status of /health, or None when nothing answers."""
    host = "127.0.0.1" if options.host in ("0.0.0.0", "::", "") else options.host  # noqa: S104  # compared, not bound
    connection = http.client.HTTPConnection(host, options.port, timeout=5)
    try:
        connection.request("GET", "/health", headers={"Host": urlsplit(options.public_url).netloc})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(BASE_DIR / "manage.py"), *arguments]


class Launcher:
    """One instance: its processes, its log files and its end."""

    def __init__(self, options: Options, *, is_following: bool, no_tasks: str = "") -> None:
        """``no_tasks`` says why no task can run here: then there is no worker and no demo."""
        self.options = options
        self.no_tasks = no_tasks
        self.environment = options.child_environment()
        self.log_dir = options.var_dir / "log"
        self.children: list[Child] = []
        self.is_following = is_following
        self.stops = 0
        """How often the launcher was told to stop."""
        self._read_to: dict[Path, int] = {}
        self._step: subprocess.Popen[bytes] | None = None

    def run(self, *, has_demo: bool) -> None:
        """Start everything and keep it running until Ctrl-C or SIGTERM."""
        self.log_dir.mkdir(exist_ok=True, mode=0o700)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        children.adopt_orphans()
        try:
            self._start_redis()
            self._prepare()
            self._start_web_and_worker()
            if has_demo and not self.no_tasks:
                self.step(manage("demo"), may_fail=True)
            self._announce()
            self.wait(lambda: False, seconds=float("inf"))
        except Stopped:
            pass
        finally:
            say("Stopping …")
            self._end_all()
            say(f"Stopped. The data is kept in {self.options.var_dir}.")

    def _stop(self, number: int, frame: object) -> None:
        self.stops += 1

    def _start_redis(self) -> None:
        if self.options.redis_url:
            return
        redis_server.prepare(self.options.var_dir)
        url = redis_server.url(self.options.var_dir)
        self._add("redis", redis_server.command(self.options.var_dir))
        self.wait(lambda: _redis_answers(url), seconds=10, what="the embedded Redis did not start")

    def _prepare(self) -> None:
        say("Preparing the database …")
        if not self.environment.get("DATABASE_URL"):
            # SQLite would make it readable to every user of the machine.
            (self.options.var_dir / "db.sqlite3").touch(mode=0o600)
        self.step(manage("migrate", "--no-input", "--verbosity", "0"))
        self.step(manage("loadmodels"))

    def _start_web_and_worker(self) -> None:
        say(
            "Starting the web server …"
            if self.no_tasks
            else "Starting the web server and the worker …"
        )
        # No access log: a WebSocket's address may hold a token.
        self._add("web", [
            sys.executable, "-m", "daphne", "--verbosity", "0", "--bind", self.options.host,
            "--port", str(self.options.port), "asynccoder.asgi:application",
        ])  # fmt: skip
        if not self.no_tasks:
            seconds = self.options.stop_seconds
            self._add("worker", manage("worker"), end_seconds=seconds + 5)
            self.children[-1].slow_end = (
                f"The worker's tasks come to the end of their step, in {seconds:g} s at most. "
                "Ctrl-C again ends them now; they go on at the next start."
            )
        self.wait(
            lambda: probe(self.options) is not None,
            seconds=READY_SECONDS,
            what="the web server did not answer",
        )

    def _announce(self) -> None:
        say("")
        say(f"  Async Coder   {self.options.public_url}")
        if self.no_tasks:
            say(f"  No tasks run  {self.no_tasks}")
        if self.options.is_production:
            say("  First account python manage.py createsuperuser")
        say(f"  Logs          {self.log_dir}")
        say("  Stop          Ctrl-C")
        say("")

    def _add(self, name: str, argv: list[str], *, end_seconds: float = 10) -> None:
        log = self.log_dir / f"{name}.log"
        child = Child(name, argv, log, self.environment, end_seconds=end_seconds)
        self._read_to[log] = log.stat().st_size if log.exists() else 0
        self.children.append(child)
        child.start()

    def step(self, argv: list[str], *, may_fail: bool = False) -> None:
        """Run a command on the launcher's terminal to its end, tending the children meanwhile."""
        self._step = process = children.start(argv, environment=self.environment, output=None)
        try:
            self.wait(lambda: children.has_ended(process), seconds=float("inf"))
        finally:
            children.end(process, seconds=5)
            self._step = None
        if process.returncode and not may_fail:
            raise preflight.NotReady(f"{argv[2]} {children.describe_end(process.returncode)}.")

    def wait(self, condition: Callable[[], bool], *, seconds: float, what: str = "") -> None:
        """Tend the children until the condition holds; raise Stopped, or NotReady after a time."""
        end = time.monotonic() + seconds
        while not condition():
            self._tend(is_starting=bool(what))
            if self.stops:
                raise Stopped
            if time.monotonic() > end:
                raise preflight.NotReady(f"{what} within {seconds:.0f} s (see {self.log_dir}).")
            time.sleep(POLL_SECONDS)

    def _tend(self, *, is_starting: bool) -> None:
        for child in self.children:
            death = child.tend()
            if death:
                self._report(child, death)
            if is_starting and child.failures >= FAILURES_MAX:
                raise preflight.NotReady(f"{child.name} does not start (see {child.log}).")
        children.reap(self._own_ids())
        if self.is_following:
            self._follow()

    def _own_ids(self) -> set[int]:
        processes = [self._step, *(child.process for child in self.children)]
        return {process.pid for process in processes if process}

    def _report(self, child: Child, death: str) -> None:
        say(f"asynccoder: {death}")
        if not self.is_following:
            for line in child.last_lines():
                say(f"{child.name:>7} | {line}")

    def _follow(self) -> None:
        for child in self.children:
            size = child.log.stat().st_size
            start = self._read_to[child.log] if self._read_to[child.log] <= size else 0
            with child.log.open("rb") as file:
                file.seek(start)
                text = file.read(size - start)
            whole, newline, _ = text.rpartition(b"\n")
            self._read_to[child.log] = start + len(whole) + len(newline)
            for line in whole.decode(errors="replace").splitlines():
                say(f"{child.name:>7} | {line}")

    def _end_all(self) -> None:
        # The worker first: it gives its leases back, for which it needs the others.
        for child in reversed(self.children):
            child.end(asked=lambda: self.stops, say=say)
        children.end_orphans()


def _redis_answers(url: str) -> bool:
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m asynccoder.launcher", description=__doc__)
    parser.add_argument("--follow", action="store_true", help="print the processes' logs")
    parser.add_argument("--no-demo", action="store_true", help="make no demo account and task")
    parser.add_argument("--probe", action="store_true", help="ask a running instance's /health")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Return 0 after a stop that was asked for, 1 when the platform could not run."""
    flags = parse(arguments)
    try:
        options = read()
        if flags.probe:
            return 0 if probe(options) == 200 else 1
        preflight.check_machine(options)
        with preflight.only_one(options.var_dir):
            no_tasks = preflight.check_surroundings(options)
            has_demo = not flags.no_demo and not options.is_production
            launcher = Launcher(options, is_following=flags.follow, no_tasks=no_tasks)
            launcher.run(has_demo=has_demo)
    except preflight.NotReady as reason:
        print(f"asynccoder: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
