"""What a task hands back, and the proof of it."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from repositories.models import PullRequest, Repository
from tasks.models.task import Task


class TaskResult(models.Model):
    """What a task hands back."""

    class Kind(models.TextChoices):
        CODE_CHANGES = "code_changes", "Code changes"
        ANSWER = "answer", "Answer"
        DOCUMENT = "document", "Document"
        REVIEW = "review", "Review"
        REPORT = "report", "Report"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    task = models.OneToOneField(Task, on_delete=models.CASCADE, related_name="result")
    kind = models.CharField(max_length=15, choices=Kind)
    summary = models.TextField(blank=True, help_text="The agent's words.")
    content = models.TextField(blank=True, help_text="Markdown: the answer, document or report.")
    data: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, blank=True, help_text="The result in the shape of its task type."
    )
    diff = models.TextField(blank=True)
    files: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(
        default=list, blank=True, help_text="[{path, status, added, removed}]"
    )
    pull_request = models.OneToOneField(
        PullRequest, null=True, blank=True, on_delete=models.SET_NULL, related_name="result"
    )
    pull_request_url = models.URLField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.kind} of {self.task_id}"


class Check(models.Model):
    """A command that the platform ran in the sandbox, with its proof."""

    class Phase(models.TextChoices):
        BEFORE = "before", "Before"
        AFTER = "after", "After"

    class Verdict(models.TextChoices):
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"
        NOT_RUN = "not_run", "Not run"

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="checks")
    phase = models.CharField(max_length=6, choices=Phase)
    round = models.PositiveSmallIntegerField(default=1)
    command = models.CharField(max_length=1000)
    verdict = models.CharField(max_length=7, choices=Verdict)
    exit_code = models.IntegerField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True, help_text="Why it was not run.")
    output = models.TextField(blank=True)
    seconds = models.FloatField(default=0)
    commit = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["task", "created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "phase", "round", "command"], name="check_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.command}: {self.verdict}"


class Analysis(models.Model):
    """The figures of an analysis; null where nothing was measured."""

    task = models.OneToOneField(Task, on_delete=models.CASCADE, related_name="analysis")
    repository = models.ForeignKey(Repository, null=True, on_delete=models.CASCADE)
    quality_score = models.FloatField(null=True, blank=True, help_text="0 to 10.")
    security_issues: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = (
        models.JSONField(default=list)
    )
    code_smells = models.PositiveIntegerField(null=True, blank=True)
    type_errors = models.PositiveIntegerField(null=True, blank=True)
    coverage_percent = models.FloatField(null=True, blank=True)
    recommendations: models.JSONField[list[str], list[str]] = models.JSONField(default=list)
    tools: models.JSONField[dict[str, str], dict[str, str]] = models.JSONField(
        default=dict, help_text="Tool versions."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "analyses"

    def __str__(self) -> str:
        return f"analysis of {self.repository}"


class TaskAnalytics(models.Model):
    """S1's ``task_analytics``: one row per finished task, for reports."""

    task = models.OneToOneField(Task, on_delete=models.CASCADE, related_name="analytics")
    queue_seconds = models.FloatField(default=0)
    run_seconds = models.FloatField(default=0)
    model_calls = models.PositiveIntegerField(default=0)
    tool_calls = models.PositiveIntegerField(default=0)
    lost_attempts = models.PositiveIntegerField(default=0)
    files_changed = models.PositiveIntegerField(default=0)
    checks_passed = models.PositiveIntegerField(default=0)
    checks_failed = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "task analytics"

    def __str__(self) -> str:
        return str(self.task_id)
