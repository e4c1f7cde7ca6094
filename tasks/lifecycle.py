"""The only functions that create, change or cancel a task; ``tasks.lease`` runs and ends it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from accounts.models import User
from aimodels import access, selection
from aimodels.models import AIModel
from aimodels.providers.base import Usage
from asynccoder.lib.errors import AppError, Conflict, NotAllowed, NotFound
from billing import ledger
from repositories import connect, git, hosted
from repositories.models import Repository
from tasks import actors, events, lease
from tasks.errors import IdempotencyConflict, PromptTooLong, TaskFinished, TaskStarted
from tasks.events import Event
from tasks.lease import Ending
from tasks.models import CHANGING, Priority, Status, Task, TaskType

WITHOUT_REPOSITORY = (TaskType.BUILD, TaskType.IMPLEMENT)
TITLE_CHARACTERS = 80
MOST_FILES, FILES_BYTES = 200, 2 * 1024**2
PATCH_CHARACTERS = 1024**2
TYPICAL_CALLS, TYPICAL_CALL = 0.3, Usage(input=12_000, cached=9_000, output=700)
"""The estimate: this share of the allowed calls, each of this size. A guess until measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """What somebody asks for. Without a model one is chosen; without a cap the default holds."""

    type: str
    prompt: str
    title: str = ""
    description: str = ""
    repository: Repository | None = None
    model: AIModel | None = None
    branch: str = ""
    target_branch: str = ""
    priority: int = Priority.MEDIUM
    parameters: dict[str, Any] = field(default_factory=dict)
    files: list[dict[str, str]] = field(default_factory=list)
    patch: str = ""
    cap_microcredits: int | None = None
    extra_calls: int = 0
    idempotency_key: str = ""

    def digest(self) -> str:
        """Return what tells two requests with one idempotency key apart."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["repository"] = str(self.repository.pk) if self.repository else None
        values["model"] = str(self.model.pk) if self.model else None
        values["priority"] = int(self.priority)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def create_task(*, owner: User, request: TaskRequest, ring: bool = True) -> tuple[Task, bool]:
    """Write the task and its hold, and ring the doorbell after commit; or return the earlier one.

    Raises AppErrors for whatever can be known before any credit is held: a viewer, an unknown or
    unable model, an unknown price, a missing branch, too few credits, a used idempotency key.
    """
    earlier = _earlier(owner, request)
    if earlier is not None:
        return earlier, False
    _refuse_bad_request(owner, request)
    model = request.model or selection.choose(owner, request.type)
    selection.require(owner, model, request.type)
    cap = _cap(request)
    estimated = min(estimate(owner, model, request), cap)
    try:
        with transaction.atomic():
            task = _insert(owner, request, model, cap=cap, estimated=estimated)
            ledger.hold(
                user_id=owner.pk,
                microcredits=estimated,
                reference=lease.hold_reference(task.pk),
                description=f"Held for {task.title}",
            )
            events.append(task.pk, Event("task.created", "The task waits for a worker."))
            events.announce_status(task)
            if ring:
                transaction.on_commit(lambda: actors.ring(str(task.pk)))
    except IntegrityError:
        earlier = _earlier(owner, request)
        if earlier is None:
            raise
        return earlier, False
    task.refresh_from_db()
    return task, True


def create_project_task(
    *, owner: User, project_name: str, request: TaskRequest
) -> tuple[Task, bool]:
    """Create a task on the user's repository of this name; without one, on a new hosted one.

    A task that is refused leaves no repository behind. Raises what ``create_task`` raises, and
    NameRefused, Conflict.
    """
    repository = hosted.named(owner, project_name)
    if repository is not None:
        return create_task(owner=owner, request=replace(request, repository=repository))
    if request.branch:
        raise AppError("A new project has no branches.", details={"field": "branch"})
    with transaction.atomic():
        made = hosted.create(owner, project_name)
        return create_task(owner=owner, request=replace(request, repository=made))


def _earlier(owner: User, request: TaskRequest) -> Task | None:
    """Return the task of an earlier request with the same key, or raise IdempotencyConflict."""
    if not request.idempotency_key:
        return None
    task: Task | None = Task.objects.filter(
        owner=owner, idempotency_key=request.idempotency_key
    ).first()
    if task is not None and task.request_digest != request.digest():
        raise IdempotencyConflict
    return task


def _refuse_bad_request(owner: User, request: TaskRequest) -> None:
    if not owner.can_work:
        raise NotAllowed("A viewer may look, not start tasks.")
    if request.type not in TaskType.values:
        raise AppError(f"There is no task type {request.type!r}.", details={"field": "type"})
    _refuse_bad_text(request)
    _refuse_bad_files(request)
    if request.repository is None:
        if request.type not in WITHOUT_REPOSITORY:
            raise AppError("This type of task needs a repository.", details={"field": "repository"})
    else:
        _refuse_repository(owner, request, request.repository)


def _refuse_bad_text(request: TaskRequest) -> None:
    if not request.prompt.strip():
        raise AppError("Say what should be done.", details={"field": "prompt"})
    limit = settings.PROMPT_MAX_CHARACTERS
    if len(request.prompt) > limit:
        raise PromptTooLong(f"The prompt has more than {limit:,} characters.")
    if len(request.patch) > PATCH_CHARACTERS:
        raise PromptTooLong(f"The patch has more than {PATCH_CHARACTERS:,} characters.")
    for name in ("prompt", "title", "description", "patch"):
        if "\0" in getattr(request, name):
            raise AppError("NUL characters are not allowed.", details={"field": name})
    if request.patch and request.type != TaskType.PR_REVIEW:
        raise AppError("Only a review takes a patch.", details={"field": "patch"})
    if request.extra_calls not in (0, settings.AGENT_EXTRA_CALLS):
        raise AppError(
            f"Extra calls are 0 or {settings.AGENT_EXTRA_CALLS}.", details={"field": "extra_calls"}
        )
    for name in ("branch", "target_branch"):
        value = getattr(request, name)
        if value and not git.is_valid_branch(value):
            raise AppError("This is not a branch name.", details={"field": name})


def _refuse_bad_files(request: TaskRequest) -> None:
    if request.files and request.type not in CHANGING:
        raise AppError("This type of task takes no files.", details={"field": "files"})
    if len(request.files) > MOST_FILES:
        raise AppError(f"At most {MOST_FILES} files.", details={"field": "files"})
    size = 0
    for file in request.files:
        if not git.is_safe_path(file["path"]):
            raise AppError(f"{file['path']!r} is not a path.", details={"field": "files"})
        size += len(file["content"].encode("utf-8", "surrogatepass"))
    if size > FILES_BYTES:
        raise PromptTooLong(f"The files have more than {FILES_BYTES:,} bytes.")
    _refuse_overlap([file["path"] for file in request.files])


def _refuse_overlap(paths: list[str]) -> None:
    """Refuse a path that is given twice, or as a file and as a folder: one of them would be lost."""
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    twice = [path for path in paths if path in folders or paths.count(path) > 1]
    if twice:
        raise AppError(f"{twice[0]!r} is given twice.", details={"field": "files"})


def _refuse_repository(owner: User, request: TaskRequest, repository: Repository) -> None:
    if not Repository.objects.visible_to(owner).active().filter(pk=repository.pk).exists():
        raise NotFound("There is no such repository.")
    if not Repository.objects.workable_by(owner).filter(pk=repository.pk).exists():
        raise NotAllowed("You may look at this repository, not start tasks on it.")
    for name in ("branch", "target_branch"):
        value = getattr(request, name)
        if value and not connect.may_have_branch(repository, value):
            raise AppError(f"There is no branch {value!r}.", details={"field": name})


def _cap(request: TaskRequest) -> int:
    """Return the most the task may spend, in microcredits: the default, or less if asked for."""
    credits = Decimal(settings.AGENT_CAP_USD) / Decimal(settings.CREDIT_USD)
    most = int(credits * ledger.MICROCREDITS)
    if request.cap_microcredits is None:
        return most
    if request.cap_microcredits <= 0:
        raise AppError("The cap must be above zero.", details={"field": "cap"})
    return min(most, request.cap_microcredits)


def estimate(owner: User, model: AIModel, request: TaskRequest) -> int:
    """Return the microcredits that a task of this type typically uses with this model.

    Raises PriceUnknown. With the user's own key nothing is charged, so nothing is held.
    """
    one = model.cost_microcredits(TYPICAL_CALL)
    if access.provider_access(model, owner).is_own_key:
        return 0
    return int(one * settings.AGENT_CALLS[request.type] * TYPICAL_CALLS)


def _insert(owner: User, request: TaskRequest, model: AIModel, *, cap: int, estimated: int) -> Task:
    task: Task = Task.objects.create(
        owner=owner,
        repository=request.repository,
        model=model,
        type=request.type,
        title=request.title.strip()[:200] or title_of(request.prompt),
        description=request.description,
        prompt=request.prompt,
        branch=request.branch,
        target_branch=request.target_branch,
        priority=request.priority,
        parameters=request.parameters,
        files=request.files,
        patch=request.patch,
        idempotency_key=request.idempotency_key,
        request_digest=request.digest(),
        cap_microcredits=cap,
        estimated_microcredits=estimated,
        extra_calls=request.extra_calls,
    )
    return task


def title_of(prompt: str) -> str:
    """Return the prompt's first line, shortened at a word."""
    line = prompt.strip().splitlines()[0].strip()
    if len(line) <= TITLE_CHARACTERS:
        return line
    return line[:TITLE_CHARACTERS].rsplit(" ", 1)[0].rstrip(",.;:") + "…"


def edit_task(
    task: Task,
    *,
    by: User,
    title: str | None = None,
    description: str | None = None,
    priority: int | None = None,
) -> Task:
    """Change what a task says while it is pending. Raises NotAllowed, TaskStarted."""
    if not _may_change(task, by):
        raise NotAllowed("You may look at this task, not change it.")
    asked = {"title": title, "description": description, "priority": priority}
    changes = {name: value for name, value in asked.items() if value is not None}
    if changes.get("title") == "":
        raise AppError("A task needs a title.", details={"field": "title"})
    if changes:
        rows = Task.objects.filter(pk=task.pk, status=Status.PENDING)
        if not rows.update(updated_at=Now(), **changes):
            raise TaskStarted("A task can be edited only while it is pending.")
    task.refresh_from_db()
    return task


def _may_change(task: Task, user: User) -> bool:
    return user.can_work and (user.is_admin or task.owner_id == user.pk)


def cancel_task(task: Task, *, by: User) -> Task:
    """End a task that waits at once; ask the worker of one that runs. Raises TaskFinished.

    1. Nobody holds it: it ends here.
    2. Somebody does: the wish is written; the worker ends its processes and then the task.
    """
    if not _may_change(task, by):
        raise NotAllowed("You may not cancel this task.")
    for _ in range(3):
        if _first_that_works(
            lambda: lease.finish_unheld(task.pk, Ending(Status.CANCELLED, by=by.username)),
            lambda: _ask_to_cancel(task, by),
        ):
            task.refresh_from_db()
            return task
        task.refresh_from_db()
        if task.is_finished:
            raise TaskFinished("The task has already ended.")
    raise Conflict("The task is changing hands; try again.")


def _first_that_works(*attempts: Callable[[], None]) -> bool:
    for attempt in attempts:
        try:
            attempt()
        except TaskFinished:
            continue
        return True
    return False


def _ask_to_cancel(task: Task, by: User) -> None:
    with transaction.atomic():
        rows = Task.objects.filter(pk=task.pk, status=Status.RUNNING).exclude(lease_owner="")
        asked = rows.filter(cancel_requested_at=None).update(
            cancel_requested_at=Now(), event_sequence=F("event_sequence") + 1
        )
        if asked:
            message = f"{by.username} cancels the task."
            events.record(
                task.pk, Event("task.cancel_requested", message, data={"by": by.username})
            )
        elif not rows.exists():
            raise TaskFinished
