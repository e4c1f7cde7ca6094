"""A task and who may see it."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from accounts.models import User
from aimodels.models import AIModel
from repositories.models import Repository, RepositoryAccess


class TaskType(models.TextChoices):
    DEBUG = "debug", "Debug"
    ASK = "ask", "Ask"
    DOCUMENTATION = "documentation", "Documentation"
    ARCHITECT = "architect", "Architect"
    PR_REVIEW = "pr_review", "Review"
    BUILD = "build", "Build"
    IMPLEMENT = "implement", "Implement"
    ANALYSIS = "analysis", "Analysis"


CHANGING = (TaskType.DEBUG, TaskType.BUILD, TaskType.IMPLEMENT, TaskType.DOCUMENTATION)
"""The types whose result is a change of files; the others get a read-only workspace."""

WORK = {"build": (TaskType.BUILD, TaskType.IMPLEMENT), "analysis": (TaskType.ANALYSIS,)}
"""The types behind the API's builds and analyses."""


class Status(models.TextChoices):
    PENDING = "pending", "Pending"
    RUNNING = "running", "Running"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


TERMINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class Priority(models.IntegerChoices):
    LOW = 0, "low"
    MEDIUM = 1, "medium"
    HIGH = 2, "high"
    URGENT = 3, "urgent"


class TaskQuerySet(models.QuerySet["Task"]):
    def visible_to(self, user: User) -> TaskQuerySet:
        """Return the user's tasks and those on repositories shared with the user."""
        if not user.is_authenticated:
            return self.none()
        if user.is_admin:
            return self
        # A subquery, not a join: DISTINCT would sort every column of every task.
        shared = RepositoryAccess.objects.filter(user=user).values("repository")
        return self.filter(Q(owner=user) | Q(repository__in=shared))

    def open(self) -> TaskQuerySet:
        return self.filter(status__in=[Status.PENDING, Status.RUNNING])

    def claimable(self) -> TaskQuerySet:
        """Return tasks that nobody holds: pending, or running without a lease (lost or parked)."""
        return self.filter(lease_owner="", status__in=[Status.PENDING, Status.RUNNING])

    def held(self, task_id: uuid.UUID, generation: int) -> TaskQuerySet:
        """Return the task only while this generation of its lease still holds it."""
        return self.filter(
            pk=task_id, generation=generation, status=Status.RUNNING, lease_owner__gt=""
        )


class Task(models.Model):
    """One piece of work. ``tasks.lifecycle`` alone starts and stops it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tasks"
    )
    repository = models.ForeignKey(
        Repository, null=True, blank=True, on_delete=models.CASCADE, related_name="tasks"
    )
    model = models.ForeignKey(AIModel, on_delete=models.PROTECT, related_name="tasks")
    type = models.CharField(max_length=15, choices=TaskType)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    prompt = models.TextField()
    branch = models.CharField(max_length=255, blank=True, help_text="Where the work starts.")
    target_branch = models.CharField(
        max_length=255, blank=True, help_text="What it is compared to."
    )
    priority = models.SmallIntegerField(choices=Priority, default=Priority.MEDIUM)
    parameters: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, blank=True, help_text="Free parameters and context of the request."
    )
    files: models.JSONField[list[dict[str, str]], list[dict[str, str]]] = models.JSONField(
        default=list, blank=True, help_text="[{path, content}] given with the request."
    )
    patch = models.TextField(blank=True, help_text="A unified diff to review instead of a branch.")
    idempotency_key = models.CharField(max_length=200, blank=True)
    request_digest = models.CharField(max_length=64, blank=True)

    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    outcome = models.CharField(
        max_length=20, blank=True, help_text="done, no_change_needed, blocked; empty until the end."
    )
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    progress = models.PositiveSmallIntegerField(default=0)
    current_step = models.CharField(max_length=200, blank=True)
    plan: models.JSONField[list[dict[str, str]], list[dict[str, str]]] = models.JSONField(
        default=list, blank=True, help_text='The agent\'s checklist: [{"title", "status"}].'
    )
    event_sequence = models.PositiveBigIntegerField(default=0, editable=False)

    cap_microcredits = models.BigIntegerField(default=0, help_text="The most it may spend.")
    estimated_microcredits = models.BigIntegerField(default=0)
    charged_microcredits = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    extra_calls = models.PositiveIntegerField(default=0)

    base_commit = models.CharField(max_length=64, blank=True)
    head_commit = models.CharField(max_length=64, blank=True, help_text="Newest checkpoint.")
    result_branch = models.CharField(max_length=255, blank=True)
    is_pushed = models.BooleanField(default=False)

    lease_owner = models.CharField(max_length=80, blank=True, editable=False)
    generation = models.PositiveIntegerField(default=0, editable=False)
    lease_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    lost_attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    run_after = models.DateTimeField(null=True, blank=True, help_text="Parked until then.")
    deadline_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = TaskQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["owner", "-created_at", "-id"], name="task_newest"),
            models.Index(
                F("priority").desc(),
                F("created_at"),
                name="task_claimable",
                condition=Q(status__in=["pending", "running"], lease_owner=""),
            ),
            models.Index(
                fields=["lease_expires_at"], name="task_leased", condition=~Q(lease_owner="")
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=Status.values), name="task_status_known"),
            models.CheckConstraint(condition=Q(type__in=TaskType.values), name="task_type_known"),
            models.CheckConstraint(condition=Q(progress__lte=100), name="task_progress_percent"),
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="task_idempotency_unique",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title} ({str(self.id)[:8]})"

    @property
    def is_finished(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_parked(self) -> bool:
        return self.status == Status.RUNNING and not self.lease_owner and self.run_after is not None
