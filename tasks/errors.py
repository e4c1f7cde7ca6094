"""The errors of tasks; see asynccoder.lib.errors for the tree."""

from __future__ import annotations

from asynccoder.lib.errors import Conflict, RunFailed, TooLarge, TryAgain


class TaskFinished(Conflict):
    """The task has already ended."""


class TaskStarted(Conflict):
    """The task has already started."""


class IdempotencyConflict(Conflict):
    """The idempotency key was used for another request."""


class PromptTooLong(TooLarge):
    """The prompt is longer than the limit."""


class LeaseLost(Exception):
    """Another worker has taken the run over; this one must stop and write nothing."""


class RunParked(Exception):
    """The run waits for a provider; it goes on in ``wake_in`` seconds."""

    def __init__(self, message: str, *, wake_in: float) -> None:
        super().__init__(message)
        self.wake_in = wake_in


class RunStopped(Exception):
    """The worker stops; the run goes on elsewhere at its next step."""


class CheckpointRefused(RunFailed):
    """The workspace could not be checkpointed."""

    code = "checkpoint_refused"


class StorageAway(TryAgain):
    """The storage of checkpoints is full or does not answer; the task waits for it."""


class WorkspaceLost(RunFailed):
    """The workspace could not be rebuilt at its last checkpoint."""

    code = "workspace_lost"


class SetupFailed(RunFailed):
    """The repository's setup command failed."""

    code = "setup_failed"


class NetworkListBad(RunFailed):
    """The repository's network list cannot be used."""

    code = "network_list_bad"


class FileNotPlaced(RunFailed):
    """A file of the request does not fit into the repository's tree."""

    code = "file_not_placed"


class RepositoryClosed(RunFailed):
    """The repository was disconnected, or the task's owner may not work on it any more."""

    code = "repository_closed"


class CapReached(RunFailed):
    """The task has spent the most it may."""

    code = "cap_reached"


class BalanceEmpty(RunFailed):
    """The account has too few credits to go on."""

    code = "out_of_credit"


class CallsUsedUp(RunFailed):
    """The task has made as many model calls as it may."""

    code = "calls_used_up"


class DeadlinePassed(RunFailed):
    """The task ran longer than it may."""

    code = "deadline_passed"


class ModelFailed(RunFailed):
    """The model could not go on."""

    code = "model_failed"


class ModelKeyRefused(RunFailed):
    """The provider refused the key."""

    code = "model_key_refused"


class SandboxMissing(RunFailed):
    """The worker has no sandbox, so it runs no commands."""

    code = "sandbox_unavailable"


class SandboxBroke(RunFailed):
    """The sandbox died again and again (memory or disk limit)."""

    code = "sandbox_lost"


class WorkerLost(RunFailed):
    """The worker died several times while it worked on this task."""

    code = "worker_lost"


class InternalFault(RunFailed):
    """Something went wrong on our side; the work that was repeated is not charged."""

    code = "internal_error"
