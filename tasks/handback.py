"""What a run hands back: the difference, the proof, the result and the branch."""

from __future__ import annotations

import logging
import math
import re
import time

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts.models import User
from asynccoder.lib import outbound, redact, storable
from asynccoder.lib.errors import AppError, RunFailed
from repositories import connect, git, hosted, pull_requests
from repositories.errors import RepositoryRefused
from repositories.forges.github import NewPull
from repositories.models import Repository
from tasks import lease, packs, stores
from tasks.agent.ports import FileChange, Handback
from tasks.analysis import tallies
from tasks.bench import DIFF_BYTES, RunBench
from tasks.lease import Claim
from tasks.models import CHANGING, Analysis, Task, TaskResult, TaskType
from tasks.workspace import store_path

logger = logging.getLogger(__name__)

PUSHED, OPENED = "Pushed ", "Opened "
CANCELLED_SECONDS = 1.0
"""How long somebody who cancels waits for what is kept; an ordinary difference takes 0.05."""
KINDS = {
    TaskType.ASK: TaskResult.Kind.ANSWER,
    TaskType.ARCHITECT: TaskResult.Kind.DOCUMENT,
    TaskType.PR_REVIEW: TaskResult.Kind.REVIEW,
    TaskType.ANALYSIS: TaskResult.Kind.REPORT,
}


def hand_back(task: Task, bench: RunBench, done: Handback) -> str:
    """Prove, keep and publish what the engine did; return the task's outcome."""
    outcome: str = done.status
    data = done.data | ({"evidence": done.evidence} if done.evidence else {})
    values: dict[str, object] = {
        "kind": KINDS.get(TaskType(task.type), TaskResult.Kind.CODE_CHANGES),
        "summary": redact.text(done.summary),
        "content": redact.text(done.content),
        "data": data,
    }
    if task.type in CHANGING:
        files = bench.changed_files()
        values |= _changes(bench, files_changed=bool(files))
        data |= _tallies(bench)
        values["files"] = [_described(file) for file in files]
        if files:
            _publish(task, bench, done)
            values |= _open_pull_request(task, bench, done, data)
        elif outcome == "done":
            outcome = "no_change_needed"
    with transaction.atomic():
        bench.journal.fence()
        TaskResult.objects.update_or_create(task=task, defaults=storable.data(values))
        if task.type == TaskType.ANALYSIS:
            _write_analysis(task, done)
    return outcome


def keep_partial(claimed: Claim, *, seconds: float = math.inf) -> None:
    """Keep what a run that did not come to its end had changed by its last checkpoint.

    Fenced by the lease, so it is called before the task ends. Does nothing without a change.
    Raises GitFailed; what takes longer than ``seconds`` to read (by default git's own limits hold)
    is left to the page, which reads it from the store.
    """
    task = Task.objects.held(claimed.task_id, claimed.generation).first()
    if task is None or not task.head_commit or task.type not in CHANGING:
        return
    store, ends = store_path(task.pk), (task.base_commit, task.head_commit)
    deadline = time.monotonic() + seconds
    diff = git.diff(store, *ends, max_bytes=DIFF_BYTES, deadline=deadline)
    files = git.changed_files(store, *ends, deadline=deadline)
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


def _tallies(bench: RunBench) -> dict[str, object]:
    """Return what the last round of checks says of its tests, where it says it."""
    records = bench.checks_of("after") or ()
    found = {
        "tests_passed": tallies.passed_tests(records),
        "test_coverage": tallies.coverage_percent(records),
    }
    return {name: value for name, value in found.items() if value is not None}


def branch_name(task: Task) -> str:
    """Return ``asynccoder/<task>-<slug>``: the only kind of branch that is ever pushed."""
    slug = re.sub(r"[^a-z0-9]+", "-", task.title.lower()).strip("-")[:40].strip("-")
    return f"asynccoder/{str(task.pk)[:8]}-{slug or task.type}"


def _publish(task: Task, bench: RunBench, done: Handback) -> None:
    """Make the one commit of the result, keep it, and push it where the remote takes it."""
    store, branch = bench.workspace.store, branch_name(task)
    message = f"{task.title}\n\n{done.summary}".strip()[:5_000]

    def effect() -> str:
        made = git.final_commit(
            store,
            task.base_commit,
            bench.journal.head,
            message=redact.text(message),
            author_name=task.owner.name,
            author_email=task.owner.email,
        )
        packs.keep(Claim(task.pk, task.generation), made, git.pack_commit(store, made))
        return made

    commit = bench.journal.note(name=stores.FINAL, effect=effect)
    git.keep_ref(store, "result", commit)
    pushed = bench.journal.external(name="push", effect=lambda: _push(task, bench, commit, branch))
    is_pushed = pushed.startswith(PUSHED)
    Task.objects.held(task.pk, task.generation).update(
        result_branch=pushed.removeprefix(PUSHED) if is_pushed else branch,
        is_pushed=is_pushed,
        updated_at=Now(),
    )


def _open_pull_request(
    task: Task, bench: RunBench, done: Handback, data: dict[str, object]
) -> dict[str, object]:
    """Open the pull request of a branch that was pushed to GitHub; ``data`` says why there is none.

    Once: a run that takes over finds what was opened, and one that was thought dead opens nothing.
    """
    pushed = Task.objects.select_related("repository__owner").get(pk=task.pk)
    repository, branch = pushed.repository, pushed.result_branch
    if repository is None or not pushed.is_pushed:
        return {}
    if pull_requests.are_taken(repository):
        new = NewPull(
            head=branch,
            base=task.branch or repository.default_branch,
            title=redact.text(task.title),
            body=redact.text(_pull_request_body(task, done)),
        )
        said = bench.journal.external(
            name="pull request", effect=lambda: _open(task, repository, new)
        )
        if not said.startswith(OPENED):
            data["pull_request_note"] = said
    opened = pull_requests.opened_from(repository, branch)
    return {"pull_request": opened, "pull_request_url": opened.url} if opened else {}


def _open(task: Task, repository: Repository, new: NewPull) -> str:
    claimed = Claim(task.pk, task.generation)
    try:
        opened = pull_requests.open_once(repository, new, check=lambda: lease.check(claimed))
    except AppError as error:
        logger.info("no pull request for %s: %s", task.pk, error)
        return f"The branch is pushed; no pull request was opened: {error.message}"[:500]
    return f"{OPENED}{opened.url}"


def _pull_request_body(task: Task, done: Handback) -> str:
    parts = [done.summary, done.evidence, f"Task: {settings.PUBLIC_URL}/tasks/{task.pk}/"]
    return "\n\n".join(part for part in parts if part)


def _push(task: Task, bench: RunBench, commit: str, branch: str) -> str:
    """Push, or say why the branch is kept here; a branch that is there already is left alone."""
    if task.repository is None:
        return "Kept here: this repository takes no pushes. The patch can be downloaded."
    # As it is now: during the run it may have been disconnected, or its owner's right withdrawn.
    owner = User.objects.get(pk=task.owner_id)
    repository = Repository.objects.workable_by(owner).filter(tasks=task).first()
    if repository is None:
        return "Kept here: the repository was disconnected, or may not be worked on any more."
    if repository.kind == Repository.Kind.HOSTED:
        return _publish_here(task, repository, commit, branch)
    try:
        return _push_there(repository, bench, commit, branch)
    except (git.GitFailed, RepositoryRefused, outbound.UrlRefused) as error:
        logger.info("push of %s refused: %s", task.pk, error)
        return f"Kept here: the branch could not be pushed ({error})."[:500]


def _push_there(repository: Repository, bench: RunBench, commit: str, branch: str) -> str:
    """Push, or say why not. Raises GitFailed, RepositoryRefused, outbound.UrlRefused."""
    if not connect.can_push(repository):
        return "Kept here: this repository takes no pushes. The patch can be downloaded."
    sensitive = git.sensitive_changes([file.path for file in bench.changed_files()])
    if sensitive:
        return f"Kept here: {', '.join(sensitive)} need a person's approval before a push."
    store, remote = bench.workspace.store, connect.remote_of(repository)
    expected = git.remote_branch(store, remote, branch)
    if expected != commit:
        git.push_branch(store, remote, commit, branch, expected=expected)
    return f"{PUSHED}{branch}"


def _publish_here(task: Task, repository: Repository, commit: str, branch: str) -> str:
    """Take the commit over into a repository that the platform hosts. Raises HostingAway."""
    work = hosted.Work(
        store=store_path(task.pk),
        base=task.base_commit,
        commit=commit,
        onto=task.branch or repository.default_branch,
        branch=branch,
    )
    try:
        return f"{PUSHED}{hosted.publish(repository, connect.mirror_path(repository), work)}"
    except RunFailed as error:
        return f"Kept here: {error}"[:500]


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
