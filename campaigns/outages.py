"""What the platform stands on goes away or is full while tasks come: nothing is lost or paid twice.

Each outage lasts ``count`` seconds. Tasks are asked for over the API before, during and after it
and two workers serve them. Whoever cannot be served is told so by a decided error; every task
that was accepted ends.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connections

from accounts import tokens
from asynccoder.tests.processes import Process
from campaigns import small_disk
from campaigns.load import SCRIPT, WORKERS, Load, number_of, open_load, wait
from campaigns.money import serve
from campaigns.own_redis import OwnRedis
from campaigns.races import make_user
from campaigns.report import Report
from campaigns.small_disk import NoDisk
from campaigns.stage import Stage
from repositories import connect
from tasks.models import Status, Task
from tasks.tests.world import bash, finish

PACE_SECONDS = 2.0
SMALL = 20
"""Outages of up to so many seconds are played with short times of leases and sweeps."""
SHORT = {"LEASE_SECONDS": "4", "LEASE_RENEW_SECONDS": "1", "SWEEP_SECONDS": "1"}
UNNOTICED_MOST = 20
"""How many times as long it may take until a full disk is noticed."""
KILLS = 3
ACCEPTED, AWAY = "201", "503 SERVICE_UNAVAILABLE"
DISK_MIB, DATABASE_MIB = 96, 24
DISK_CODES = ("disk_full",)


@dataclass
class Play:
    """The load, what it runs on, and what may fail of it."""

    stage: Stage
    load: Load
    redis: OwnRedis
    report: Report
    seconds: int
    url: str
    token: str
    may_fail: dict[int, Collection[str]] = field(default_factory=dict)

    @property
    def open_tasks(self) -> int:
        """As long as so many are open no more are asked for: the load is there, not the queue."""
        return 3 if self.seconds <= SMALL else 6

    def feed(self, seconds: float, *, expected: Collection[str] = (ACCEPTED,)) -> Counter[str]:
        """Ask for tasks for so long; return what was answered. Anything unexpected is a loss.

        Where a refusal is expected they are asked for however many are open.
        """
        before = Counter(self.load.answers)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if AWAY in expected or self.open() < self.open_tasks:
                self.load.post(self.url, self.token)
            time.sleep(min(PACE_SECONDS, seconds / 4))
        told = self.load.answers - before
        strange = {answer: times for answer, times in told.items() if answer not in expected}
        self.report.expect(not strange, f"the API answered {strange}")
        return told

    def open(self) -> int:
        """Return how many tasks are open; none where the database cannot say."""
        try:
            return self.load.open()
        except DatabaseError:
            connections.close_all()
            return 0

    def until_accepted(self) -> None:
        """Ask until a task is accepted again."""
        wait(lambda: self.load.post(self.url, self.token) == ACCEPTED, "a task is accepted again")

    def ended(self) -> int:
        return int(Task.objects.filter(status=Status.COMPLETED).count())


def without_redis(play: Play) -> str:
    play.redis.kill()
    told = _work_on(play)
    play.redis.start(is_empty=True)
    return told


def with_full_redis(play: Play) -> str:
    with play.redis.full():
        return _work_on(play)


def _work_on(play: Play) -> str:
    """Ask for tasks for the time of the outage, and until one has begun and ended in it."""
    before = play.ended()
    told = play.feed(play.seconds)
    wait(lambda: play.ended() > before, "a task ends meanwhile")
    return f"{told[ACCEPTED]} tasks accepted and {play.ended() - before} ended meanwhile"


def without_postgres(play: Play) -> str:
    server = play.stage.postgres
    assert server is not None
    server.stop()
    told = play.feed(play.seconds, expected=[AWAY])
    server.start()
    play.report.expect(told[AWAY], "nobody was told that PostgreSQL is away")
    return _recover(play, told)


def kill_postgres(play: Play) -> str:
    """Kill it with all its connections in the middle of the work, KILLS times in the time."""
    server = play.stage.postgres
    assert server is not None
    told: Counter[str] = Counter()
    for _ in range(KILLS):
        server.kill()
        told += play.feed(play.seconds / KILLS / 3, expected=[AWAY])
        server.start()
        told += play.feed(play.seconds / KILLS * 2 / 3, expected=[ACCEPTED, AWAY])
    return f"{KILLS} times; {_recover(play, told)}"


def fill_sqlite(play: Play) -> str:
    """Leave the disk of the database not one byte.

    Its log has some room of its own, so that the first writes may still go through.
    """
    with small_disk.filled(_database_disk(play.stage)):
        told = play.feed(play.seconds, expected=[ACCEPTED, AWAY])
        for _ in range(UNNOTICED_MOST):
            if not told[AWAY]:
                told += play.feed(play.seconds, expected=[ACCEPTED, AWAY])
    play.report.expect(told[AWAY], "the full database was never noticed")
    return _recover(play, told)


def _recover(play: Play, told: Counter[str]) -> str:
    began = time.monotonic()
    play.until_accepted()
    return (
        f"{told[AWAY]} times 503, {told[ACCEPTED]} times 201 meanwhile; "
        f"the first 201 {time.monotonic() - began:.1f} s after it"
    )


def fill_disk(play: Play) -> str:
    """Let mallory's task take all the room of the workers' disk and keep it."""
    mallory = make_user("mallory", credits=1_000)
    upstream = str(play.stage.folder / "upstream")
    repository = connect.connect_repository(owner=mallory, url=upstream, is_operator=True)
    hog = play.load.count
    fill = bash(f"cat /dev/zero > fill; sync; sleep {play.seconds}")
    play.load.model.others[hog] = [fill, *finish()]
    (task,) = play.load.create(owner=mallory, repository=repository)
    play.may_fail[hog] = DISK_CODES
    disk = Path(settings.VAR_DIR)
    wait(lambda: small_disk.free_bytes(disk) < small_disk.MIB, "the disk is full")
    # Who works just now may need room; who comes later must wait for it.
    running = Task.objects.exclude(pk=task.pk).filter(status=Status.RUNNING)
    numbers = [number_of(prompt) for prompt in running.values_list("prompt", flat=True)]
    play.may_fail |= dict.fromkeys(numbers, DISK_CODES)
    told = play.feed(play.seconds)
    wait(lambda: not play.load.open(), "every task ends")
    task.refresh_from_db()
    failed = Task.objects.exclude(owner=mallory).filter(error_code__in=DISK_CODES).count()
    return (
        f"{told[ACCEPTED]} tasks of others accepted meanwhile, {failed} of those at work failed as "
        "disk_full; "
        f"mallory's ended {task.error_code or task.status}"
    )


Attack = Callable[[Play], str]
ON_SQLITE: dict[str, Attack] = {
    "Redis is gone": without_redis,
    "one tenant fills the workers' disk": fill_disk,
    "the database's disk is full": fill_sqlite,
}
ON_POSTGRES: dict[str, Attack] = {
    "Redis is full": with_full_redis,
    "PostgreSQL is stopped and started": without_postgres,
    "PostgreSQL is killed -9": kill_postgres,
}
ON_SMALL_DISKS = (fill_disk, fill_sqlite)


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Play every outage for ``count`` seconds; the seed decides nothing here."""
    report = Report(
        "Outages under load",
        ["outage", "database", "tasks", "s to the last end", "what came of it"],
    )
    database = "PostgreSQL" if stage.is_postgres else "SQLite"
    attacks = ON_POSTGRES if stage.is_postgres else ON_SQLITE
    with ExitStack() as stack:
        try:
            stack.enter_context(_on_small_disks(stage))
        except NoDisk as error:
            for name in [name for name, attack in attacks.items() if attack in ON_SMALL_DISKS]:
                report.add(name, database, "", "", f"skipped: {error}")
            attacks = {
                name: attack for name, attack in attacks.items() if attack not in ON_SMALL_DISKS
            }
        # The disks are taken away when nobody writes any more.
        stack.callback(_end_all, stage)
        load = stack.enter_context(open_load(stage))
        url = serve(stage)
        times = SHORT if count <= SMALL else {}
        workers = load.start_workers(times)
        play = Play(
            stage, load, OwnRedis(stage), report, count, url, tokens.begin(load.owner).access
        )
        for number, (name, attack) in enumerate(attacks.items()):
            before, began = load.count, time.monotonic()
            load.create(play.open_tasks)
            told = attack(play)
            wait(lambda: not play.open() and _is_idle(), "every task ends")
            took = time.monotonic() - began
            report.add(name, database, load.count - before, f"{took:.0f}", told)
            stage.progress(number + 1, len(attacks), f"outages on {database}")
        report.losses += load.losses(is_disturbed=True, may_fail=play.may_fail)
        _tell(play, database)
        _expect_alive(workers, report)
    return report


def _is_idle() -> bool:
    return not Task.objects.exclude(lease_owner="").exists()


def _tell(play: Play, database: str) -> None:
    load = play.load
    play.report.facts |= {
        f"on {database}": f"{len(load.accepted)} tasks, each of {len(SCRIPT)} model calls, "
        f"{load.asked().total()} calls asked for, "
        f"{sum(Task.objects.values_list('lost_attempts', flat=True))} attempts lost; "
        f"the API said {', '.join(f'{n} times {told}' for told, n in sorted(load.answers.items()))}",
        "each outage": f"{play.seconds} s, "
        f"{WORKERS} workers with {'short' if play.seconds <= SMALL else 'the default'} lease times",
    }


def _expect_alive(workers: list[Process], report: Report) -> None:
    for number, worker in enumerate(workers):
        report.expect(worker.popen.poll() is None, f"worker {number} has ended")


def _end_all(stage: Stage) -> None:
    for process in stage.processes:
        process.end()
    connections.close_all()


@contextlib.contextmanager
def _on_small_disks(stage: Stage) -> Iterator[None]:
    """Put VAR_DIR and the SQLite file on small disks of their own. Raises NoDisk."""
    if stage.is_postgres:
        yield
        return
    disk = _database_disk(stage)
    disk.mkdir()
    with (
        small_disk.mounted(Path(settings.VAR_DIR), mib=DISK_MIB),
        small_disk.mounted(disk, mib=DATABASE_MIB),
    ):
        connections.close_all()
        database = stage.folder / "db.sqlite3"
        for file in stage.folder.glob("db.sqlite3*"):
            shutil.move(file, disk / file.name)
        database.symlink_to(disk / database.name)
        yield


def _database_disk(stage: Stage) -> Path:
    return stage.folder / "disk"
