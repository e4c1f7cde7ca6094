"""One run of a task, in a process of its own: workspace, engine, checks, result.

This is the only place that turns what happened into a terminal state. ``except Exception``
stands here because our own faults must end a task, too: logged, not charged, told in plain words.
"""

from __future__ import annotations

import logging
import uuid

from django.conf import settings
from django.db import connections

from aimodels import access
from aimodels.models import ProviderKind
from aimodels.providers import connect
from aimodels.providers.base import BadRequest, ProviderBusy, ProviderError, ProviderRefused
from asynccoder.lib import logs
from asynccoder.lib.errors import AppError, RunFailed, TryAgain
from repositories import git
from repositories.errors import failure
from tasks import handback, lease, setup
from tasks.agent.errors import ModelGaveUp, OutOfBudget
from tasks.agent.loop import AgentLimits, run_agent
from tasks.agent.ports import Assignment, Handback
from tasks.bench import RunBench
from tasks.builtin import run_builtin
from tasks.errors import (
    BalanceEmpty,
    CallsUsedUp,
    CapReached,
    DeadlinePassed,
    InternalFault,
    LeaseLost,
    ModelFailed,
    ModelKeyRefused,
    RunParked,
    SandboxMissing,
)
from tasks.journal import RunJournal
from tasks.lease import Claim, Ending
from tasks.models import CHANGING, Status, Task
from tasks.modes import MODES
from tasks.records import Money
from tasks.sandbox import selftest
from tasks.sandbox.base import SandboxUnavailable
from tasks.sandbox.toolchain import Toolchain
from tasks.workspace import RunWorkspace, overlays_work

logger = logging.getLogger(__name__)

PARK_SECONDS = 60.0
"""How long a run sleeps when a provider does not say how long."""
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


def run_in_child(task_id: str, generation: int) -> None:
    """Run a claim in this freshly forked process (the fork server calls this)."""
    logs.task_id.set(task_id)
    connections.close_all()
    run(Claim(uuid.UUID(task_id), generation))


def run(claimed: Claim) -> None:
    """Run a claim to its end, its parking or the loss of its lease. Never raises."""
    try:
        _end_as(claimed, _ending(claimed))
    except LeaseLost:
        logger.warning("run %s: the lease is lost; another worker goes on", claimed.task_id)
    except RunParked as parked:
        lease.park(claimed, seconds=parked.wake_in, reason=str(parked))


def end_from_outside(claimed: Claim, ending: Ending) -> None:
    """End a run whose process was killed (a cancellation, a deadline); its work is kept."""
    _keep_partial(claimed)
    lease.finish(claimed, ending)


def _end_as(claimed: Claim, ending: Ending) -> None:
    if ending.status == Status.FAILED:
        _keep_partial(claimed)
    if not lease.finish(claimed, ending):
        logger.warning("run %s: ended by another", claimed.task_id)


def _keep_partial(claimed: Claim) -> None:
    try:
        handback.keep_partial(claimed)
    except git.GitFailed:
        # The task has failed already; a store that cannot be read must not keep it running.
        logger.exception("run %s: its partial work could not be read", claimed.task_id)


def _ending(claimed: Claim) -> Ending:
    """Do the work and say how it ended. Raises LeaseLost and RunParked."""
    try:
        task = Task.objects.select_related("owner", "repository", "model").get(pk=claimed.task_id)
        if task.generation != claimed.generation:
            raise LeaseLost(str(claimed.task_id))
        outcome = _work(task)
    except (LeaseLost, RunParked):
        raise
    except OutOfBudget as error:
        return Ending.failed(LIMITS[error.limit](str(error)))
    except ModelGaveUp as error:
        return Ending(Status.FAILED, error_code=error.code, error_message=str(error))
    except ProviderError as error:
        return Ending.failed(_provider_failure(error))
    except TryAgain as error:
        raise RunParked(error.message, wake_in=error.retry_after or PARK_SECONDS) from error
    except RunFailed as error:
        return Ending.failed(error)
    except git.GitFailed as error:
        return Ending.failed(failure(error))
    except Exception:
        logger.exception("run %s failed on our side", claimed.task_id)
        return Ending.failed(InternalFault())
    return Ending(Status.COMPLETED, outcome=outcome)


def _provider_failure(error: ProviderError) -> RunFailed:
    """Return the task's error for a provider's; a busy provider parks the run instead."""
    if isinstance(error, ProviderBusy):
        raise RunParked(str(error), wake_in=error.retry_after or PARK_SECONDS)
    if isinstance(error, ProviderRefused):
        return ModelKeyRefused(str(error))
    if isinstance(error, BadRequest):
        return ModelFailed(f"The provider did not accept the request: {error}")
    return ModelFailed(str(error))


def _work(task: Task) -> str:
    """Prepare, let the engine work, prove and hand back; return the outcome."""
    reach = _reach(task)
    journal = RunJournal(task, Money(task.model, task.cap_microcredits, reach.is_own_key))
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
    payer = "own key" if journal.money.is_own_key else "credits"
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
