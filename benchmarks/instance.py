"""The platform as a benchmark runs it: own database, Redis, worker, one user and repository.

``TEST_DATABASE_URL`` and ``TEST_REDIS_URL`` name servers; without them it is SQLite and an
embedded Redis.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from asynccoder.tests.processes import Process, wait_for
from benchmarks import accounting, tracing
from benchmarks.fake_model import FakeModel
from campaigns.stage import Stage, open_stage
from tasks.forkserver import IDLE_SECONDS

if TYPE_CHECKING:
    # Importable once the stage has set Django up.
    from accounts.models import User
    from aimodels.models import AIModel
    from repositories.models import Repository
    from tasks.models import Task

PRICE = Decimal("0.000001")
ENVIRONMENT = {
    # Only the limits that a long run or many short ones would meet; all else is as delivered.
    "AGENT_EXTRA_CALLS": "1000",
    "AGENT_CAP_USD": "1000",
    "RATE_TASK_CREATE": "100000/1h",
    "RATE_PLAN_FREE": "100000/1h",
    "LOG_LEVEL": "WARNING",
}


@dataclass
class Instance:
    """What a benchmark works with."""

    stage: Stage
    fake: FakeModel
    owner: User
    model: AIModel
    repository: Repository
    worker: Process
    trace: Path | None = None
    """Where a traced worker writes its spans (``benchmarks.tracing``)."""

    def create(self, *, steps: int = 0) -> Task:
        """Make a task as the API does; the doorbell rings. It may take so many steps."""
        from tasks import lifecycle

        request = lifecycle.TaskRequest(
            type="debug", prompt="Make it so.", model=self.model,
            repository=self.repository, extra_calls=1000 * (steps > 50),
        )  # fmt: skip
        return lifecycle.create_task(owner=self.owner, request=request)[0]

    def spans(self) -> list[tracing.Span]:
        """Return what a traced worker and its runs have said so far."""
        assert self.trace is not None
        return tracing.read(self.trace)

    def wait_until_warm(self) -> None:
        """Wait until the fork server has prepared all that it does while nobody asks for anything."""
        server = accounting.below(self.worker.pid)[-1].pid
        used, since = -1.0, time.monotonic()

        def is_done() -> bool:
            nonlocal used, since
            now = accounting.cpu_ms(accounting.below(server))
            if now != used:
                used, since = now, time.monotonic()
            return time.monotonic() - since > 2 * IDLE_SECONDS

        wait_for(is_done, seconds=300, what="the fork server has prepared everything")

    def run_process(self) -> accounting.Process:
        """Return the process of the run that goes on: below the fork server, leading a session."""
        tree = accounting.below(self.worker.pid)
        first = tree[0]
        return next(p for p in tree if p.session == p.pid and p.session != first.session)

    def wait_for_end(self, task: Task) -> None:
        """Wait until a task has ended well and its process is gone."""

        def has_ended() -> bool:
            task.refresh_from_db()
            return task.is_finished

        wait_for(has_ended, seconds=600, what=f"the task ends (now {task.status})")
        if task.status != "completed":
            raise RuntimeError(f"{task.status}: {task.error_message}\n{self.worker.output()}")
        session = accounting.below(self.worker.pid)[0].session
        wait_for(
            lambda: all(p.session == session for p in accounting.below(self.worker.pid)),
            what="the run's process ends",
        )


@contextlib.contextmanager
def open_instance(
    fake: FakeModel, repository: Path, *, is_traced: bool = False, **environment: str
) -> Iterator[Instance]:
    """Open a stage with a worker that serves, and connect the repository to its one user.

    With ``is_traced`` the worker says what it does when, which makes it a little slower.
    """
    settings = ENVIRONMENT | environment
    settings |= {"OPENAI_BASE_URL": fake.url("stream"), "OPENAI_API_KEY": "none"}
    with open_stage(
        database=os.environ.get("TEST_DATABASE_URL", ""),
        redis_url=os.environ.get("TEST_REDIS_URL", ""),
        environment=settings,
    ) as stage:
        from accounts.models import User
        from billing import ledger
        from repositories import connect
        from tasks.models import WorkerHeartbeat
        from tasks.tests.make import make_model

        owner = User.objects.create_user(username="alice", email="alice@example.com")
        ledger.grant(user_id=owner.pk, microcredits=10**15, reference="benchmark")
        model = make_model(
            provider="openai", name="scripted", display_name="Scripted", input_price=PRICE,
            output_price=PRICE, cached_input_price=PRICE, context_window=1_000_000,
        )  # fmt: skip
        connected = connect.connect_repository(owner=owner, url=str(repository), is_operator=True)
        trace = stage.folder / "trace" if is_traced else None
        worker = (
            stage.start("-m", "benchmarks.tracing", str(trace), "worker")
            if trace
            else stage.worker()
        )
        wait_for(
            lambda: WorkerHeartbeat.objects.exists() or worker.popen.poll() is not None,
            seconds=120, what="the worker serves",
        )  # fmt: skip
        if worker.popen.poll() is not None:
            raise RuntimeError(worker.output())
        yield Instance(stage, fake, owner, model, connected, worker, trace)
