"""A world in which a task stops in the phase that is asked for, for whoever cancels it there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from asynccoder.tests.processes import Process, descendants, wait_for
from billing.models import CreditHold, LedgerEntry
from repositories import connect, git
from repositories.models import Repository
from repositories.tests.git_server import GitServer, serving
from tasks import lifecycle, panes
from tasks.models import TERMINAL, Status, Task, WorkerHeartbeat
from tasks.tests.test_forkserver import is_alive
from tasks.tests.world import World, bash, build_world, finish, run_git

LINE = bash("echo line >> notes.txt")
SLEEP = "sleep 611 & setsid sleep 611; wait"
CHECKS = {"checks on the base": SLEEP, "checks on the result": f"test ! -e notes.txt || ({SLEEP})"}
SETUPS = {"setup": SLEEP}
SECOND_TURNS: dict[str, dict[str, Any]] = {
    "parked": {"fault": {"status": 429, "retry_after": 600}},
    "command": bash(SLEEP),
    # So large that git needs a while for it.
    "checkpoint": bash("head -c 60000000 /dev/urandom > large"),
}
HANGS = {"fetch": "git-upload-pack", "push": "git-receive-pack"}
PHASES = (
    "pending", "parked", "fetch", "setup", "checks on the base", "model call", "command",
    "checkpoint", "checks on the result", "push",
)  # fmt: skip
OTHER = "somebody else's"
NAMED = re.compile(r"Stop at: ([^.]+)\.")
ENDS = [f"task.{status}" for status in TERMINAL]
LATER = timedelta(hours=1)
LATEST_SECONDS = 60
"""Only what hangs takes so long."""


@dataclass
class Holder:
    """One worker, and tasks that stop one after another, beside those in ``others``."""

    world: World
    served: GitServer
    remote: Repository
    """What ``served`` serves; ``world.repository`` is on the disk and takes no branch of ours."""
    worker: Process | None = None
    server: int = 0
    """The fork server: whatever a run starts is below it."""
    others: set[int] = field(default_factory=set)
    """Processes of runs that nobody cancels."""
    _thinking: set[str] = field(default_factory=set)
    _go_on: threading.Event = field(default_factory=threading.Event)

    def start(self, **environment: str) -> None:
        """Start the worker and wait until it serves."""
        self.worker = self.world.start_worker(**(self.world.environment | environment))
        wait_for(WorkerHeartbeat.objects.exists, seconds=120, what="the worker serves")
        self.server = descendants(self.worker.pid)[-1]

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a task's turn; the model thinks until ``let_go`` where it is to stop there."""
        found = NAMED.search(str(body["messages"]))
        phase = found[1] if found else ""
        turn = sum(1 for message in body["messages"] if message["role"] == "assistant")
        if turn == 1 and phase in SECOND_TURNS:
            return SECOND_TURNS[phase]
        if (turn == 1 and phase in ("model call", OTHER)) or (phase == "checkpoint" and turn > 1):
            self._thinking.add(phase)
            self._go_on.wait(600)
        return [LINE, *finish()][min(turn, 2)]

    def runs(self) -> set[int]:
        """Return what is alive of runs."""
        return {pid for pid in descendants(self.server) if is_alive(pid)} - self.others

    def create(self, phase: str, repository: Repository | None = None) -> Task:
        """Create a task that will stop in a phase; one of any other name is run to its end."""
        Repository.objects.update(
            setup_command=SETUPS.get(phase, ""), check_commands=[CHECKS.get(phase, "true")]
        )
        self._thinking.discard(phase)
        if phase in HANGS:
            self.let_go_of_git()
            self.served.hang, self.served.hang_at = threading.Event(), HANGS[phase]
        usual = self.remote if phase in HANGS else self.world.repository
        return self.world.create(prompt=f"Stop at: {phase}.", repository=repository or usual)

    def hold(self, phase: str) -> Task:
        """Create a task and wait until it has stopped where it is to stop."""
        if phase == "pending":
            with transaction.atomic():
                task = self.create(phase)
                Task.objects.filter(pk=task.pk).update(run_after=timezone.now() + LATER)
            return task
        asked = len(self.served.seen)
        task = self.create(phase)

        def is_there() -> bool:
            match phase:
                case "fetch" | "push":
                    return any(HANGS[phase] in seen.path for seen in self.served.seen[asked:])
                case "parked":
                    task.refresh_from_db()
                    return task.is_parked and not self.runs()
                case "model call" | "somebody else's":
                    return phase in self._thinking
                case "checkpoint":
                    return any("add\0-A" in command_line(pid) for pid in self.runs())
                case _:
                    return [command_line(pid) for pid in self.runs()].count("sleep\000611\0") == 2

        wait_for(is_there, seconds=LATEST_SECONDS, what=f"a task is at its {phase}")
        task.refresh_from_db()
        return task

    def wait_until_idle(self) -> None:
        """Wait for the end of the processes of a run that has ended."""
        wait_for(lambda: not self.runs(), seconds=LATEST_SECONDS, what="no run is left")

    def let_go_of_git(self) -> None:
        if self.served.hang:
            self.served.hang.set()
        self.served.hang = None

    def let_go(self) -> None:
        self._go_on.set()
        self.let_go_of_git()

    def branches(self, task: Task) -> str:
        """Return the branches of a task that have come to a remote."""
        pattern = f"asynccoder/{str(task.pk)[:8]}-*"
        folders = (self.served.root / "app.git", Path(self.world.repository.url))
        return "".join(run_git(folder, "branch", "--list", pattern) for folder in folders)


def faults_of(holder: Holder, task: Task, *, left: set[int]) -> list[str]:
    """Return what is wrong with a task that was cancelled; ``left`` is what then still ran."""
    sequences = list(task.log.order_by("sequence").values_list("sequence", flat=True))
    ends = list(task.log.filter(kind__in=ENDS).values_list("kind", flat=True))
    charges = LedgerEntry.objects.filter(
        kind="charge", reference__startswith=f"task:{task.pk}:"
    ).values_list("held_change", flat=True)
    lines = [command_line(pid).replace("\0", " ")[:200] for pid in sorted(left)]
    holds = {
        f"it is {task.status} {task.error_code}".strip(): task.status == Status.CANCELLED,
        f"it ended by {ends}": ends == ["task.cancelled"],
        "its events have a gap": sequences == list(range(1, len(sequences) + 1)),
        f"still runs: {lines}": not left,
        "its hold is open": not CreditHold.objects.filter(
            reference=f"task:{task.pk}", is_open=True
        ).exists(),
        "its charges are not what it says": -sum(charges) == task.charged_microcredits,
        f"a branch was pushed: {holder.branches(task).strip()}": not holder.branches(task),
        "what it had done is not shown": not task.head_commit or "+line" in panes.diff_of(task),
        "others were hit": all(is_alive(pid) for pid in (holder.server, *holder.others)),
    }
    return [words for words, is_good in holds.items() if not is_good]


def cancel(holder: Holder, task: Task) -> list[str]:
    """Cancel a task, wait for its end, and return what is wrong at that very moment."""
    lifecycle.cancel_task(task, by=task.owner)
    holder.world.finished(task, seconds=LATEST_SECONDS)
    return faults_of(holder, task, left=holder.runs())


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def build_holder(
    owner: User, start_worker: Callable[..., Process], folder: Path
) -> Iterator[Holder]:
    """Make the world, with a remote that can hang beside its repository."""
    with build_world(owner, [], start_worker, folder / "repository") as world:
        run_git(folder / "repository", "config", "receive.hideRefs", "refs/heads/asynccoder")
        bare = folder / "served" / "app.git"
        bare.parent.mkdir()
        run_git(folder, "clone", "-q", "--bare", world.repository.url, str(bare))
        with serving(bare.parent) as served:
            settings.OUTBOUND_ALLOWED = [served.address]
            world.environment["OUTBOUND_ALLOWED"] = served.address
            remote = connect.connect_repository(
                owner=owner, url=served.url("app.git"), credential=git.Credential("a", "b")
            )
            holder = Holder(world, served, remote)
            world.server.script = holder.answer
            try:
                yield holder
            finally:
                holder.let_go()
