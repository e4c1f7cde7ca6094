"""What a run does: its steps, the whole texts of their outputs, and the log that people read."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from tasks.models.task import Task


class Step(models.Model):
    """One row of the journal: written before the effect, settled after it."""

    class Kind(models.TextChoices):
        MODEL_CALL = "model_call", "Model call"
        TOOL_CALL = "tool_call", "Tool call"
        PLATFORM = "platform", "Platform"

    class State(models.TextChoices):
        STARTED = "started", "Started"
        DONE = "done", "Done"
        LOST = "lost", "Lost"

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="steps")
    ordinal = models.PositiveIntegerField()
    attempt = models.PositiveSmallIntegerField(default=1)
    kind = models.CharField(max_length=10, choices=Kind)
    name = models.CharField(max_length=80)
    state = models.CharField(max_length=8, choices=State, default=State.STARTED)
    generation = models.PositiveIntegerField()
    summary = models.CharField(max_length=300, blank=True, help_text="One line for people.")
    input_digest = models.CharField(max_length=64)
    input = models.TextField(blank=True)
    outcome = models.TextField(
        blank=True, help_text="JSON, what the loop is given again on resume."
    )
    is_error = models.BooleanField(default=False)
    exit_code = models.IntegerField(null=True, blank=True)
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_microcredits = models.BigIntegerField(default=0)
    tree_before = models.CharField(max_length=64, blank=True)
    tree_after = models.CharField(max_length=64, blank=True)
    checkpoint = models.CharField(max_length=64, blank=True, help_text="Commit after this step.")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["task", "ordinal", "attempt"]
        constraints = [
            models.UniqueConstraint(fields=["task", "ordinal", "attempt"], name="step_unique")
        ]

    def __str__(self) -> str:
        return f"{self.ordinal} {self.name} {self.state}"


class TaskLog(models.Model):
    """One event of a task (S1's ``task_logs``); ``sequence`` has no gaps within a task."""

    class Level(models.TextChoices):
        DEBUG = "debug", "Debug"
        INFO = "info", "Info"
        WARNING = "warning", "Warning"
        ERROR = "error", "Error"

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="log")
    sequence = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=40, help_text="Past tense, such as task.started.")
    level = models.CharField(max_length=7, choices=Level, default=Level.INFO)
    message = models.TextField(blank=True)
    data: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, blank=True
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["task", "sequence"]
        constraints = [
            models.UniqueConstraint(fields=["task", "sequence"], name="task_log_sequence_unique")
        ]

    def __str__(self) -> str:
        return f"{self.sequence} {self.kind}"


class Artifact(models.Model):
    """The whole text of something the log shows only in part."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="artifacts")
    step = models.ForeignKey(Step, null=True, on_delete=models.CASCADE, related_name="artifacts")
    name = models.CharField(max_length=120)
    content_type = models.CharField(max_length=60, default="text/plain; charset=utf-8")
    body = models.BinaryField()
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["task", "created_at"]

    def __str__(self) -> str:
        return self.name
