"""The right half of a task's page: result, changes, checks and cost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F
from django.http import Http404
from django.utils.safestring import SafeString

from accounts.models import User
from asynccoder.lib.errors import AppError
from billing.models import LedgerEntry
from repositories.errors import as_failed_run
from repositories.git import objects
from tasks import diffview, evidence, prose, stores
from tasks.diffview import ShownFile
from tasks.models import CHANGING, Analysis, Check, Step, Task, TaskResult

logger = logging.getLogger(__name__)

DIFF_BYTES = 5 * 1024**2
TABS = {"result": "Result", "changes": "Changes", "checks": "Checks", "cost": "Cost"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pane:
    """What the open tab shows; the other tabs are only counted."""

    tab: str
    files: Sequence[ShownFile] = ()
    added: int = 0
    removed: int = 0
    file_count: int = 0
    proofs: Sequence[evidence.Proof] = ()
    bill: evidence.Bill | None = None
    ledger: Sequence[LedgerEntry] = ()
    result: TaskResult | None = None
    analysis: Analysis | None = None
    content: SafeString | str = ""
    findings: Sequence[evidence.Finding] = ()
    is_partial: bool = False
    tabs: dict[str, str] = field(default_factory=lambda: TABS)


def known_tab(task: Task, tab: str) -> str:
    """Return the tab asked for, or the one that says most now."""
    if tab in TABS:
        return tab
    return "changes" if task.type in CHANGING and not task.is_finished else "result"


def pane_of(task: Task, user: User, tab: str, unfold: int = -1) -> Pane:
    """Return the open tab of a task's page; the task comes with its result and analysis."""
    tab = known_tab(task, tab)
    result = getattr(task, "result", None)
    proofs = evidence.proofs_of(Check.objects.filter(task=task))
    values: dict[str, Any] = {
        "tab": tab,
        "result": result,
        "proofs": proofs,
        "file_count": len(result.files) if result else 0,
    }
    more = {"result": _result, "changes": _changes, "cost": _cost}.get(tab)
    return Pane(**(values | (more(task, user, unfold) if more else {})))


def diff_of(task: Task) -> str:
    """Return the task's whole difference: the result's, or that of the newest checkpoint."""
    result = getattr(task, "result", None)
    if result is not None:
        return str(result.diff)
    if not (task.base_commit and task.head_commit) or task.base_commit == task.head_commit:
        return ""
    try:
        store = stores.store_of(task)
        with as_failed_run():
            return objects.diff(store, task.base_commit, task.head_commit, max_bytes=DIFF_BYTES)
    except (AppError, OSError) as error:
        # A store may be gone or on its way here; the page then says that there is nothing to show.
        logger.warning("no diff of task %s: %s", task.pk, type(error).__name__)
        return ""


def file_of(task: Task, number: int) -> ShownFile:
    """Return one file of the diff with all its lines, or raise Http404."""
    found = diffview.show_file(diff_of(task), number)
    if found is None:
        raise Http404
    return found


def _result(task: Task, user: User, unfold: int) -> dict[str, Any]:
    result = getattr(task, "result", None)
    if result is None:
        return {}
    return {
        "content": prose.to_html(result.content or result.summary),
        "analysis": getattr(task, "analysis", None),
        "findings": evidence.findings_of(result.data)
        if result.kind == TaskResult.Kind.REVIEW
        else [],
    }


def _changes(task: Task, user: User, unfold: int) -> dict[str, Any]:
    files = diffview.show(diff_of(task), unfold=unfold)
    return {
        "files": files,
        "file_count": len(files),
        "added": sum(file.added for file in files),
        "removed": sum(file.removed for file in files),
        "is_partial": not task.is_finished,
    }


def _cost(task: Task, user: User, unfold: int) -> dict[str, Any]:
    steps = (
        Step.objects.filter(task=task, kind=Step.Kind.MODEL_CALL)
        .annotate(seconds=F("finished_at") - F("started_at"))
        .defer("input", "outcome")
    )
    entries = LedgerEntry.objects.visible_to(user).filter(reference__startswith=f"task:{task.pk}")
    return {
        "bill": evidence.bill_of(task, steps),
        "ledger": list(entries.order_by("created_at", "reference")[:200]),
    }
