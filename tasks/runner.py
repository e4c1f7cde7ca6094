"""One run of a task, in a process of its own: workspace, engine, checks, result.

This is the only place that turns what happened into a terminal state. ``except Exception``
stands here because our own faults must end a task, too: logged, not charged, told in plain words.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections

from aimodels import access
from aimodels.models import ProviderKind
from aimodels.providers import connect
from aimodels.providers.base import BadRequest, ProviderBusy, ProviderError, ProviderRefused
from asynccoder.lib import bus, logs
from asynccoder.lib.errors import AppError, RunFailed, TryAgain
from repositories import git
from repositories.errors import DiskFull, FetchFailed, GitBroke, HandOverBad, failure
from tasks import handback, lease, setup, stores
from tasks.agent.errors import ModelGaveUp, OutOfBudget
from tasks.agent.loop import AgentLimits, run_agent
from tasks.agent.ports import Assignment, Handback
from tasks.bench import RunBench
from tasks.builtin import run_builtin
from tasks.errors import (
    BalanceEmpty,
    CallsUsedUp,
    CapReached,
    CheckpointRefused,
    DeadlinePassed,
    InternalFault,
    LeaseLost,
    ModelFailed,
    ModelKeyRefused,
    RunParked,
    RunStopped,
    SandboxMissing,
    WorkspaceLost,
)
from tasks.journal import RunJournal
from tasks.lease import Claim, Ending
from tasks.models import CHANGING, Status, Task
from tasks.modes import MODES
from tasks.records import Money
from tasks.sandbox import selftest
from tasks.sandbox.base import SandboxUnavailable
from tasks.sandbox.toolchain import Toolchain
from tasks.workspace import RunWorkspace, has_room, overlays_work

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)
SQLITE_SHORT = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_BUSY")
"""A full or failing disk, or others that write: SQLite's names for a server that is away."""
AWAY_SECONDS, AWAY_POLL_SECONDS = 120.0, 0.5
"""How long a run waits for a lost database to give its lease back, and between two tries."""
NEED_ROOM = (FetchFailed, GitBroke, HandOverBad, WorkspaceLost, CheckpointRefused)
"""What git and a sandbox come to that could not write; not always in the system's words."""
LIMITS: dict[str, type[RunFailed]] = {
    "money": CapReached,
    "balance": BalanceEmpty,
    "calls": CallsUsedUp,
    "time": DeadlinePassed,
}


def prove_sandbox() -> None:
    """Attack an own sandbox; raise SandboxMissing when none can be made or an attack gets out."""
    try:
        selftest.require(Toolchain.of_platform())
        overlays_work()
    except SandboxUnavailable as error:
        raise SandboxMissing(str(error)) from error


def run_in_child(task_id: str, generation: int, is_stopping: Callable[[], bool]) -> None:
    """Run a claim in this freshly forked process (the fork server calls this)."""
    logs.task_id.set(task_id)
    connections.close_all()
    with bus.gathering():
        run(Claim(uuid.UUID(task_id), generation), is_stopping=is_stopping)


def run(claimed: Claim, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Run a claim to its end, its parking or the loss of its lease. Never raises.

    Once ``is_stopping`` says so, the run is given back between two steps.
    """
    try:
        _run(claimed, is_stopping)
    except DATABASE_AWAY as error:
        logger.warning("run %s lost the database: %s", claimed.task_id, type(error).__name__)
        _give_back_once_it_answers(claimed, is_lost=not _is_of_server(error))


def _run(claimed: Claim, is_stopping: Callable[[], bool]) -> None:
    try:
        _end_as(claimed, _ending(claimed, is_stopping))
    except RunStopped:
        lease.give_back(claimed, is_lost=False)
    except LeaseLost:
        logger.warning("run %s: the lease is lost; another worker goes on", claimed.task_id)
    except RunParked as parked:
        lease.park(claimed, seconds=parked.wake_in, reason=str(parked))


def _is_of_server(error: Exception) -> bool:
    """Tell whether the server was gone, going, coming or short of something.

    Anything else may be the run's own fault: such attempts are counted.
    """
    name = getattr(error.__cause__, "sqlite_errorname", "")
    if name:
        return name.startswith(SQLITE_SHORT)
    state = getattr(error.__cause__, "sqlstate", "")
    # PostgreSQL names no state where it is not reached at all.
    return state is None or state.startswith(("08", "53", "57P"))


def _give_back_once_it_answers(claimed: Claim, *, is_lost: bool) -> None:
    """Give the lease back, so that the run goes on at its last step, when the database is there.

    Raises the database's error when it stays away; the lease runs out then.
    """
    end = time.monotonic() + AWAY_SECONDS
    while True:
        connections.close_all()
        try:
            lease.give_back(claimed, is_lost=is_lost)
        except DATABASE_AWAY:
            if time.monotonic() > end:
                raise
            time.sleep(AWAY_POLL_SECONDS)
        else:
            return


def end_from_outside(claimed: Claim, ending: Ending) -> None:
    """End a run whose process was killed (a cancellation, a deadline); its work is kept.

    Nobody waits for the end at a deadline; whoever cancels does.
    """
    is_awaited = ending.status == Status.CANCELLED
    _keep_partial(claimed, seconds=handback.CANCELLED_SECONDS if is_awaited else math.inf)
    if lease.finish(claimed, ending):
        stores.tidy(claimed.task_id)


def _end_as(claimed: Claim, ending: Ending) -> None:
    if ending.status == Status.FAILED:
        _keep_partial(claimed)
    if not lease.finish(claimed, ending):
        logger.warning("run %s: ended by another", claimed.task_id)
        return
    # The storage may take its time; whoever waits for the end need not.
    bus.send()
    stores.tidy(claimed.task_id)


def _keep_partial(claimed: Claim, *, seconds: float = math.inf) -> None:
    try:
        handback.keep_partial(claimed, seconds=seconds)
    except (git.GitFailed, OSError):
        # The task has failed already; a store that cannot be read must not keep it running.
        logger.exception("run %s: its partial work could not be read", claimed.task_id)


def _ending(claimed: Claim, is_stopping: Callable[[], bool]) -> Ending:
    """Do the work and say how it ended.

    Raises LeaseLost, RunParked, RunStopped, and the database's error when it is lost.
    """
    try:
        task = Task.objects.select_related("owner", "repository", "model").get(pk=claimed.task_id)
        if task.generation != claimed.generation:
            raise LeaseLost(str(claimed.task_id))
        outcome = _work(task, is_stopping)
    except (LeaseLost, RunParked, RunStopped, *DATABASE_AWAY):
        raise
    except OutOfBudget as error:
        return Ending.failed(LIMITS[error.limit](str(error)))
    except ModelGaveUp as error:
        return Ending(Status.FAILED, error_code=error.code, error_message=str(error))
    except ProviderError as error:
        return Ending.failed(_provider_failure(error))
    except TryAgain as error:
        raise RunParked(
            error.message, wake_in=error.retry_after or settings.PARK_SECONDS
        ) from error
    except RunFailed as error:
        return Ending.failed(_for_want_of_room(error))
    except git.GitFailed as error:
        return Ending.failed(_for_want_of_room(failure(error)))
    except Exception as error:
        logger.exception("run %s failed on our side", claimed.task_id)
        return Ending.failed(DiskFull() if _is_disk_full(error) else InternalFault())
    return Ending(Status.COMPLETED, outcome=outcome)


def _for_want_of_room(error: RunFailed) -> RunFailed:
    """Return DiskFull for what a full disk may look like, where there is no room now."""
    return DiskFull() if isinstance(error, NEED_ROOM) and not has_room() else error


def _is_disk_full(error: Exception) -> bool:
    # What copies a whole tree gathers its errors as texts.
    return isinstance(error, OSError) and (
        error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)
    )


def _provider_failure(error: ProviderError) -> RunFailed:
    """Return the task's error for a provider's; a busy provider parks the run instead."""
    if isinstance(error, ProviderBusy):
        raise RunParked(str(error), wake_in=error.retry_after or settings.PARK_SECONDS)
    if isinstance(error, ProviderRefused):
        return ModelKeyRefused(str(error))
    if isinstance(error, BadRequest):
        return ModelFailed(f"The provider did not accept the request: {error}")
    return ModelFailed(str(error))


def _work(task: Task, is_stopping: Callable[[], bool]) -> str:
    """Prepare, let the engine work, prove and hand back; return the outcome."""
    reach = _reach(task)
    money = Money(task.model, task.cap_microcredits, reach.is_own_key, reach.key_id)
    journal = RunJournal(task, money)
    journal.is_stopping = is_stopping
    start = setup.find_start(task, journal)
    _refuse_another_payer(journal)
    workspace = RunWorkspace(
        Claim(task.pk, task.generation),
        start.origin,
        is_read_only=task.type not in CHANGING,
        hosts=task.repository.network_allow_list if task.repository else (),
    )
    workspace.head = task.head_commit or start.origin.commit
    journal.head = start.origin.commit
    journal.checkpoint, journal.on_reset = workspace.checkpoint, workspace.reset
    workspace.prepare()
    bench = RunBench(task, workspace, journal)
    try:
        setup.prepare_tree(task, bench)
        done = _engine(bench, reach, setup.assignment(task, bench, start))
        return handback.hand_back(task, bench, done)
    finally:
        workspace.close()
        git.prune_bases(start.origin.bases, keep_bytes=settings.BASES_KEEP_BYTES)


def _reach(task: Task) -> access.Access:
    """Return how the model is reached; it may have been switched off since the task was made."""
    try:
        return access.provider_access(task.model, task.owner)
    except AppError as error:
        raise ModelFailed(error.message) from error


def _refuse_another_payer(journal: RunJournal) -> None:
    """Raise ModelFailed when the user's own key, with which the run began, is gone."""
    payer = "own key" if journal.purse.money.is_own_key else "credits"
    if journal.note(name="payer", effect=lambda: payer) != payer:
        raise ModelFailed("The key that this task began with is not there any more.")


def _engine(bench: RunBench, reach: access.Access, assignment: Assignment) -> Handback:
    """Let the task's engine work: the built-in one, or the agent's loop with a model."""
    task = bench.task
    if task.model.provider == ProviderKind.BUILTIN:
        return run_builtin(assignment, bench)
    provider = connect(
        reach.kind,
        base_url=reach.base_url,
        address=reach.address,
        api_key=reach.api_key.reveal(),
        model=reach.model_name,
        timeout=settings.MODEL_TIMEOUT_SECONDS,
        max_retries=settings.MODEL_MAX_RETRIES,
    )
    return run_agent(
        assignment=assignment,
        mode=MODES[task.type],
        provider=provider,
        bench=bench,
        limits=agent_limits(task),
    )


def agent_limits(task: Task) -> AgentLimits:
    """Return the limits of one run (agent-design, section 4)."""
    return AgentLimits(
        calls=settings.AGENT_CALLS[task.type] + task.extra_calls,
        wrap_up_seconds=settings.AGENT_WRAP_UP_SECONDS,
        deadline_seconds=settings.AGENT_DEADLINE_SECONDS,
        command_seconds=settings.AGENT_COMMAND_SECONDS,
        command_max_seconds=settings.AGENT_COMMAND_MAX_SECONDS,
        output_characters=settings.AGENT_OUTPUT_CHARACTERS,
        malformed_replies=settings.AGENT_MALFORMED_REPLIES,
        repair_steps=settings.AGENT_REPAIR_STEPS,
        same_results=settings.AGENT_SAME_RESULTS,
        same_failures=settings.AGENT_SAME_FAILURES,
        alternating_calls=settings.AGENT_ALTERNATING_CALLS,
        stale_changes=settings.AGENT_STALE_CHANGES,
        summary_share=settings.AGENT_SUMMARY_SHARE,
        least_gain=settings.AGENT_LEAST_GAIN,
        context_window=task.model.context_window,
        max_output_tokens=task.model.max_output_tokens,
    )
