"""What a run hands back: the difference, the proof, the result and the branch."""

from __future__ import annotations

import logging
import re

from django.db import transaction
from django.db.models.functions import Now

from accounts.models import User
from asynccoder.lib import redact, storable
from repositories import connect, git
from repositories.models import Repository
from tasks.agent.ports import FileChange, Handback
from tasks.bench import DIFF_BYTES, RunBench
from tasks.lease import Claim
from tasks.models import CHANGING, Analysis, Task, TaskResult, TaskType
from tasks.workspace import store_path

logger = logging.getLogger(__name__)

KINDS = {
    TaskType.ASK: TaskResult.Kind.ANSWER,
    TaskType.ARCHITECT: TaskResult.Kind.DOCUMENT,
    TaskType.PR_REVIEW: TaskResult.Kind.REVIEW,
    TaskType.ANALYSIS: TaskResult.Kind.REPORT,
}


def hand_back(task: Task, bench: RunBench, done: Handback) -> str:
    """Prove, keep and publish what the engine did; return the task's outcome."""
    outcome: str = done.status
    values: dict[str, object] = {
        "kind": KINDS.get(TaskType(task.type), TaskResult.Kind.CODE_CHANGES),
        "summary": redact.text(done.summary),
        "content": redact.text(done.content),
        "data": done.data | ({"evidence": done.evidence} if done.evidence else {}),
    }
    if task.type in CHANGING:
        files = bench.changed_files()
        values |= _changes(bench, files_changed=bool(files))
        values["files"] = [_described(file) for file in files]
        if files:
            _publish(task, bench, done)
        elif outcome == "done":
            outcome = "no_change_needed"
    with transaction.atomic():
        bench.journal.fence()
        TaskResult.objects.update_or_create(task=task, defaults=storable.data(values))
        if task.type == TaskType.ANALYSIS:
            _write_analysis(task, done)
    return outcome


def keep_partial(claimed: Claim) -> None:
    """Keep what a run that did not come to its end had changed by its last checkpoint.

    Fenced by the lease, so it is called before the task ends. Does nothing without a change.
    """
    task = Task.objects.held(claimed.task_id, claimed.generation).first()
    if task is None or not task.head_commit or task.type not in CHANGING:
        return
    store = store_path(task.pk)
    diff = git.diff(store, task.base_commit, task.head_commit, max_bytes=DIFF_BYTES)
    files = git.changed_files(store, task.base_commit, task.head_commit)
    if not files:
        return
    values = {
        "kind": TaskResult.Kind.CODE_CHANGES,
        "summary": "The task did not come to its end; this is the work up to its last step.",
        "diff": diff,
        "files": [_described(file) for file in files],
        "data": {"is_partial": True},
    }
    with transaction.atomic():
        if Task.objects.held(task.pk, claimed.generation).update(updated_at=Now()):
            TaskResult.objects.update_or_create(task=task, defaults=storable.data(values))


def _described(file: FileChange | git.ChangedFile) -> dict[str, object]:
    return {
        "path": file.path,
        "status": file.status,
        "added": file.added,
        "removed": file.removed,
    }


def _changes(bench: RunBench, *, files_changed: bool) -> dict[str, object]:
    """Make sure that a change was checked by the platform; return its diff."""
    if files_changed and bench.checks_of("after") is None:
        bench.set_progress(90, "Running the checks on the result")
        bench.run_checks(phase="after")
    return {"diff": bench.diff() if files_changed else ""}


def branch_name(task: Task) -> str:
    """Return ``asynccoder/<task>-<slug>``: the only kind of branch that is ever pushed."""
    slug = re.sub(r"[^a-z0-9]+", "-", task.title.lower()).strip("-")[:40].strip("-")
    return f"asynccoder/{str(task.pk)[:8]}-{slug or task.type}"


def _publish(task: Task, bench: RunBench, done: Handback) -> None:
    """Make the one commit of the result, keep it, and push it where the remote takes it."""
    store, branch = bench.workspace.store, branch_name(task)
    message = f"{task.title}\n\n{done.summary}".strip()[:5_000]
    commit = bench.journal.note(
        name="final commit",
        effect=lambda: git.final_commit(
            store,
            task.base_commit,
            bench.journal.head,
            message=redact.text(message),
            author_name=task.owner.name,
            author_email=task.owner.email,
        ),
    )
    git.keep_ref(store, "result", commit)
    pushed = bench.journal.external(name="push", effect=lambda: _push(task, bench, commit, branch))
    Task.objects.held(task.pk, task.generation).update(
        result_branch=branch, is_pushed=pushed.startswith("Pushed"), updated_at=Now()
    )


def _push(task: Task, bench: RunBench, commit: str, branch: str) -> str:
    """Push, or say why the branch is kept here; a branch that is there already is left alone."""
    if task.repository is None:
        return "Kept here: this repository takes no pushes. The patch can be downloaded."
    # As it is now: during the run it may have been disconnected, or its owner's right withdrawn.
    owner = User.objects.get(pk=task.owner_id)
    repository = Repository.objects.workable_by(owner).filter(tasks=task).first()
    if repository is None:
        return "Kept here: the repository was disconnected, or may not be worked on any more."
    if not connect.can_push(repository):
        return "Kept here: this repository takes no pushes. The patch can be downloaded."
    sensitive = git.sensitive_changes([file.path for file in bench.changed_files()])
    if sensitive:
        return f"Kept here: {', '.join(sensitive)} need a person's approval before a push."
    remote = connect.remote_of(repository)
    try:
        expected = git.remote_branch(bench.workspace.store, remote, branch)
        if expected != commit:
            git.push_branch(bench.workspace.store, remote, commit, branch, expected=expected)
    except git.GitFailed as error:
        logger.info("push of %s refused: %s", task.pk, error)
        return f"Kept here: the remote did not take the branch ({error})."[:500]
    return f"Pushed {branch}"


def _write_analysis(task: Task, done: Handback) -> None:
    names = (
        "quality_score",
        "security_issues",
        "code_smells",
        "type_errors",
        "coverage_percent",
        "recommendations",
        "tools",
    )
    values = {name: storable.data(done.data[name]) for name in names if name in done.data}
    Analysis.objects.update_or_create(task=task, defaults=values | {"repository": task.repository})
