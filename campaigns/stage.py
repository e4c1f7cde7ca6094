"""Where a campaign plays: an own database, Redis, VAR_DIR and the platform's real processes.

Nothing of the operator's is touched: on a server that is named, the campaign makes a database of
its own and drops it, and uses keys of its own and deletes them.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import django
import psycopg
import redis

from asynccoder.tests.processes import ROOT, Process, launch, running_redis
from campaigns.own_postgres import OwnPostgres

KEEP = re.compile(r"^#?(?!TEST_)([A-Z][A-Z0-9_]+)=", re.M)


@dataclass
class Stage:
    """One open stage. ``environment`` is what every process of it is started with."""

    folder: Path
    environment: dict[str, str]
    processes: list[Process] = field(default_factory=list)
    postgres: OwnPostgres | None = None
    """The stage's PostgreSQL where that is the campaign's own, too."""
    _said: str = ""

    @property
    def is_postgres(self) -> bool:
        return self.environment["DATABASE_URL"].startswith("postgres")

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start ``python ARGUMENTS`` on the stage's database; it ends with the stage at the latest."""
        log = self.folder / "logs" / f"{len(self.processes)}.log"
        process = launch([sys.executable, *arguments], self.environment | environment, log)
        self.processes.append(process)
        return process

    def worker(self, **environment: str) -> Process:
        return self.start("manage.py", "worker", **environment)

    def progress(self, done: int, count: int, what: str) -> None:
        """Tell a person at the terminal how far the campaign is."""
        line = f"{what} {done}/{count}"
        if line == self._said:
            return
        self._said = line
        beginning, end = (
            ("\r", "\n" if done == count else "") if sys.stderr.isatty() else ("", "\n")
        )
        sys.stderr.write(f"{beginning}{time.strftime('%H:%M:%S')} {line}{end}")
        sys.stderr.flush()


@contextlib.contextmanager
def open_stage(
    *, database: str = "", redis_url: str = "", environment: Mapping[str, str]
) -> Iterator[Stage]:
    """Make an instance, set Django up on it in this process, migrate; remove all of it at the end.

    ``environment`` are further settings. One stage a process: Django is set up only once.
    """
    name = f"campaign_{secrets.token_hex(4)}"
    folder = Path(tempfile.mkdtemp(prefix=f"asynccoder-{name}-"))
    # The sandbox's user must be able to pass through it when the campaign runs as root.
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "logs").mkdir()
        own = {
            "ENV_FILE": os.devnull,
            "ENVIRONMENT": "test",
            "VAR_DIR": str(folder / "var"),
            "DATABASE_URL": stack.enter_context(_database(database, name, folder)),
            "REDIS_URL": stack.enter_context(_redis(redis_url, name, folder)),
            "REDIS_PREFIX": name,
            "SECRET_KEY": secrets.token_urlsafe(48),
            "JWT_SECRET": secrets.token_urlsafe(48),
            "FIELD_ENCRYPTION_KEYS": f"stage:{secrets.token_urlsafe(32)}",
            "DJANGO_SETTINGS_MODULE": "asynccoder.settings",
            "ASYNCCODER_TEST_CHILD": "1",
        }
        for known in KEEP.findall((ROOT / ".env.example").read_text()):
            os.environ.pop(known, None)
        os.environ |= own | dict(environment)
        (folder / "var").mkdir(mode=0o755)
        django.setup()
        _migrate()
        stage = Stage(folder, dict(os.environ))
        stack.callback(_end, stage)
        yield stage


def _end(stage: Stage) -> None:
    from django.db import connections

    for process in stage.processes:
        process.end()
    connections.close_all()


def _migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@contextlib.contextmanager
def _database(url: str, name: str, folder: Path) -> Iterator[str]:
    if not url:
        yield f"sqlite:///{folder}/db.sqlite3"
        return
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        # By a new connection: the campaign may have restarted the server.
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def _redis(url: str, name: str, folder: Path) -> Iterator[str]:
    if not url:
        with running_redis(folder / "redis") as own:
            yield own
        return
    try:
        yield url
    finally:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(f"*{name}*", count=1000):
                client.delete(key)
