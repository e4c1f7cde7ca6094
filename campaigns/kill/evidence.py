"""Gathering the facts of a task from the journal, the ledger, the remote and the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from accounts.models import FeedEvent, User
from aimodels.models import AIModel
from aimodels.providers.base import Usage
from billing import ledger
from billing.models import CreditHold, LedgerEntry
from campaigns.kill import script
from campaigns.kill.field import Player
from campaigns.kill.verdict import Account, Facts, StepFact
from tasks.lease import hold_reference
from tasks.models import Task
from tasks.tests.world import run_git
from tasks.workspace import store_path, task_folder

KEPT = {"store.git", "store.git.lock"}
"""The checkpoints, and the lock beside them that two processes of a machine meet at."""
KEPT_IN_STORE = {"HEAD", "config", "objects", "refs", "packed-refs"}


def gather(player: Player, upstream: Path) -> Facts:
    task = player.its_task
    task.refresh_from_db()
    result = getattr(task, "result", None)
    return Facts(
        name=f"task {player.number}",
        status=task.status,
        error_code=task.error_code,
        diff=result.diff if result else "",
        tree=_tree(task),
        steps=[StepFact(*row) for row in task.steps.values_list(
            "ordinal", "kind", "state", "cost_microcredits")],
        charges=_charges(task),
        charged=task.charged_microcredits,
        released=not CreditHold.objects.filter(
            reference=hold_reference(task.pk), is_open=True).exists(),
        told=[_price(task.model, call) for call in range(1, script.CALLS + 1)],
        requests=dict(player.requests),
        events=list(task.log.order_by("sequence").values_list("sequence", "kind")),
        lost_attempts=task.lost_attempts,
        kills=len(player.kills),
        pushes=_pushes(upstream, task),
        result=task.steps.filter(name="final commit").values_list("outcome", flat=True).last() or "",
        is_pushed=task.is_pushed,
        taken_up=taken_up(player),
        left=list(_left(task)),
    )  # fmt: skip


def _tree(task: Task) -> str:
    if not task.head_commit:
        return ""
    return run_git(store_path(task.pk), "rev-parse", f"{task.head_commit}^{{tree}}").strip()


def _charges(task: Task) -> dict[str, int]:
    prefix = f"{hold_reference(task.pk)}:call:"
    rows = LedgerEntry.objects.filter(kind="charge", reference__startswith=prefix)
    return {
        row.reference.removeprefix(prefix): -row.held_change - row.balance_change for row in rows
    }


def _price(model: AIModel, call: int) -> int:
    usage = script.turn(call)["usage"]
    return int(model.cost_microcredits(Usage(**usage)))


def _pushes(upstream: Path, task: Task) -> list[str]:
    """Return the commits that the remote's log of the task's branch names, the oldest first."""
    pattern = f"refs/heads/asynccoder/{str(task.pk)[:8]}-*"
    found = run_git(upstream, "for-each-ref", "--format=%(refname)", pattern).split()
    return [
        commit
        for ref in found
        for commit in reversed(run_git(upstream, "log", "-g", "--format=%H", ref, "--").split())
    ]


def gather_account(owner: User, granted: int) -> Account:
    owner.refresh_from_db()
    charged = sum(Task.objects.values_list("charged_microcredits", flat=True))
    balance = ledger.balance(owner.pk)
    entries = LedgerEntry.objects.filter(account__user=owner).order_by("sequence")
    feed = FeedEvent.objects.filter(user=owner).order_by("sequence")
    return Account(
        granted=granted,
        charged=charged,
        balance=balance.balance,
        held=balance.held,
        entries=list(entries.values_list("sequence", "balance_change")),
        feed=list(feed.values_list("sequence", flat=True)),
        places=owner.running_tasks,
    )


def taken_up(player: Player) -> list[float]:
    """Return for each kill how long nobody worked on the task, in seconds.

    After the last kill of one that was given up it is the time until it ended.
    """
    task = player.its_task
    kinds = ("task.resumed", "task.failed", "task.completed", "task.cancelled")
    times = [
        at.timestamp()
        for at in task.log.filter(kind__in=kinds).order_by("sequence").values_list(
            "created_at", flat=True)
    ]  # fmt: skip
    return [
        next((at - kill.since for at in times if at > kill.at), float("inf"))
        for kill in player.kills
    ]


def _left(task: Task) -> Iterator[str]:
    """Name what attempts have left in the task's folder besides the checkpoints."""
    for folder, kept in ((task_folder(task.pk), KEPT), (store_path(task.pk), KEPT_IN_STORE)):
        if folder.is_dir():
            for path in folder.iterdir():
                if path.name not in kept:
                    yield f"{folder.name}/{path.name}"
