"""The broker goes wrong in every way while tasks wait and run: each runs once all the same.

Redis is only the doorbell and the news. It is flushed and started again with everything queued,
its messages come twice, in other orders and among such as nobody can read, it is killed, and it
hangs. Two workers serve throughout, and pages follow the live events.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings

from accounts import tokens
from asynccoder.lib import bus
from asynccoder.tests.processes import Process
from campaigns.followers import Follower
from campaigns.load import SCRIPT, SLOTS, WORKERS, Load, open_load, wait
from campaigns.money import serve
from campaigns.own_redis import OwnRedis, Queue
from campaigns.report import Report
from campaigns.stage import Stage
from tasks import actors
from tasks.models import Task

FOLLOWED = 3
"""Tasks of each attack that a page looks at."""
DURING = 3
"""Tasks that are asked for while the broker is away."""
SMALL = 20
"""Up to so many tasks the workers sweep every second, above as they do by default."""
COPIES = (2, 5)
NEWS_SECONDS = 60.0


@dataclass
class Play:
    """The load, what it runs on, and what was seen of it."""

    stage: Stage
    load: Load
    redis: OwnRedis
    report: Report
    chance: random.Random
    url: str
    token: str
    count: int
    followers: dict[str, Follower] = field(default_factory=dict)

    def create(self, count: int) -> list[Task]:
        tasks = self.load.create(count)
        for task in tasks[:FOLLOWED]:
            address = f"{self.socket}/api/ws/task/{task.pk}?token={self.token}"
            self.followers[str(task.pk)] = Follower(address)
        return tasks

    @property
    def socket(self) -> str:
        return self.url.replace("http://", "ws://")

    def queue_up(self) -> None:
        """Fill every slot with a task that waits for its model, and let ``count`` more queue."""
        self.create(WORKERS * SLOTS)
        full = WORKERS * SLOTS
        wait(lambda: self.load.model.waiting == full, "every slot has a task")
        self.create(self.count)

    def end_some(self, count: int) -> None:
        """Wait until so many more tasks have ended than have now."""
        now = self.load.open()
        wait(lambda: self.load.open() <= max(now - count, 0), "tasks go on and end")


def flush(play: Play) -> str:
    """Flush the server and start it again empty while everything is queued."""
    with play.load.model.held():
        play.queue_up()
        with play.redis.client() as client:
            queued = len(Queue(client).ids())
            client.flushall()
            left = len(Queue(client).ids())
        play.report.expect(queued >= play.count, f"only {queued} messages were there to flush")
        play.redis.kill()
        play.redis.start(is_empty=True)
    return f"{queued - left} messages are gone"


def repeat(play: Play) -> str:
    """Deliver every message two to five times, in another order, among such as mean nothing."""
    with play.load.model.held(), play.redis.client() as client:
        play.queue_up()
        queue = Queue(client)
        first = queue.ids()
        for message_id in first:
            for copy in range(play.chance.randint(*COPIES) - 1):
                # Half of them is the very same message, half is another one that says the same.
                other = message_id if copy % 2 else message_id + b"-%d" % copy
                text = queue.body(message_id).replace(message_id, other)
                queue.put(other, text)
        strange = strangers(queue.body(first[0]) if first else b"{}")
        for number, body in enumerate(strange):
            queue.put(b"strange-%d" % number, body)
        ids = queue.ids()
        play.chance.shuffle(ids)
        queue.replace(ids)
        play.report.expect(len(first) >= play.count, "there was nothing to repeat")
    return f"{len(first)} messages became {len(ids)}, {len(strange)} of them not to be understood"


def strangers(good: bytes) -> list[bytes | None]:
    """Return messages that this platform never sends, made from one that it does."""
    fields = json.loads(good)

    def other(**values: object) -> bytes:
        return json.dumps(fields | values).encode()

    in_a_year = int(time.time() + 365 * 24 * 3600) * 1000
    return [
        None,
        b"",
        b"\xff\x00 no text",
        b"{}",
        b"[1, 2]",
        b"null",
        good[: len(good) // 2],
        other(actor_name="launch_missiles"),
        other(args=[]),
        other(args=["one", "two"], kwargs={"three": 3}),
        other(args=None),
        other(options=None),
        other(options={}),
        other(options=fields.get("options", {}) | {"eta": in_a_year}),
        other(options=fields.get("options", {}) | {"eta": "later"}),
        other(queue_name="another"),
        other(args=["x" * 1_000_000]),
    ]


def kill_and_keep(play: Play) -> str:
    return _kill(play, is_empty=False)


def kill_and_lose(play: Play) -> str:
    return _kill(play, is_empty=True)


def _kill(play: Play, *, is_empty: bool) -> str:
    """Kill the server in the middle of the work, let work go on without it, and start it again."""
    play.create(play.count)
    play.end_some(play.chance.randint(1, max(play.count // 3, 1)))
    began = time.monotonic()
    play.redis.kill()
    play.create(DURING)
    play.end_some(2)
    play.redis.start(is_empty=is_empty)
    return f"away for {time.monotonic() - began:.0f} s, came back {'empty' if is_empty else 'as it was'}"


def hang(play: Play) -> str:
    """Stop the server's process, ask for tasks by API and verb, and let it go on."""
    play.create(play.count)
    play.end_some(1)
    began = time.monotonic()
    with play.redis.hung():
        told = [play.load.post(play.url, play.token) for _ in range(DURING)]
        play.report.expect(told == ["201"] * DURING, f"while Redis hung the API said {told}")
        play.create(DURING)
        play.end_some(2)
    return f"hung for {time.monotonic() - began:.0f} s; the API answered {DURING} times 201"


ATTACKS: dict[str, Callable[[Play], str]] = {
    "flushed and started again empty, all queued": flush,
    "messages repeated, mixed up and foreign": repeat,
    "killed at work, started on its log": kill_and_keep,
    "killed at work, started empty": kill_and_lose,
    "hangs, then goes on": hang,
}


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Play every attack with ``count`` tasks and judge each task."""
    report = Report("A broker that fails", ["attack", "tasks", "what came of it", "s to the end"])
    with open_load(stage) as load:
        workers = load.start_workers({"SWEEP_SECONDS": "1"} if count <= SMALL else {})
        play = Play(
            stage, load, OwnRedis(stage), report, random.Random(seed),
            serve(stage), tokens.begin(load.owner).access, count,
        )  # fmt: skip
        feed = Follower(f"{play.socket}/ws?token={play.token}")
        for number, (name, attack) in enumerate(ATTACKS.items()):
            before, began = load.count, time.monotonic()
            told = attack(play)
            wait(lambda: not load.open(), "every task ends")
            took = time.monotonic() - began
            _expect_recovered(play, name)
            report.add(name, load.count - before, told, f"{took:.0f}")
            stage.progress(number + 1, len(ATTACKS), "attacks")
        _judge(play, feed)
        _end_workers(workers, report)
    return report


def _expect_recovered(play: Play, name: str) -> None:
    """Expect that bells are heard and news are followed again, and not only swept and polled."""
    with play.redis.client() as client:
        actors.ring("nobody")
        try:
            wait(lambda: not Queue(client).ids(), "the bells are answered", seconds=NEWS_SECONDS)
            wait(
                lambda: dict(client.pubsub_numsub(bus.channel())).get(bus.channel().encode()),
                "the web server follows the news",
                seconds=NEWS_SECONDS,
            )
        except TimeoutError as error:
            play.report.losses.append(f"{name}: {error}")


def _judge(play: Play, feed: Follower) -> None:
    report, load = play.report, play.load
    report.losses += load.losses()
    load.owner.refresh_from_db()
    followed = {key: Task.objects.get(pk=key).event_sequence for key in play.followers}
    followed["feed"] = load.owner.event_sequence
    for key, upto in followed.items():
        follower = play.followers.get(key, feed)
        follower.wait(upto, seconds=NEWS_SECONDS)
        follower.stop()
        report.losses += [f"the page on {key}: {fault}" for fault in follower.faults(upto)]
    readers = [feed, *play.followers.values()]
    report.facts |= {
        "tasks": f"{load.count}, each of {len(SCRIPT)} model calls, run by {WORKERS} workers",
        "model calls asked for": load.asked().total(),
        "live streams followed": f"{len(readers)}, {sum(followed.values())} events, "
        f"{sum(reader.cuts for reader in readers)} lines cut",
        "sweeps": f"every {settings.SWEEP_SECONDS if play.count > SMALL else 1:g} s",
        "database": "PostgreSQL" if play.stage.is_postgres else "SQLite",
    }


def _end_workers(workers: list[Process], report: Report) -> None:
    for number, worker in enumerate(workers):
        worker.send(signal.SIGTERM)
        status = worker.popen.wait(60)
        report.expect(status == 0, f"worker {number} ended with status {status}")
        for bad in ("worker ended", "Exception in thread"):
            report.expect(bad not in worker.output(), f"worker {number} said: {bad}")
