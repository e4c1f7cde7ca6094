"""Tasks for staff: what happened is read-only; actions call the verbs of ``tasks.lifecycle``."""

from __future__ import annotations

from typing import cast

from django.contrib import admin, messages
from django.db.models import QuerySet, URLField
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts.models import User
from asynccoder.lib.admin import ReadOnly
from asynccoder.lib.errors import AppError
from billing.ledger import as_credits
from tasks import lifecycle
from tasks.models import (
    Analysis,
    Artifact,
    Check,
    Step,
    Task,
    TaskAnalytics,
    TaskLog,
    TaskResult,
    WorkerHeartbeat,
)


class CheckInline(ReadOnly, admin.TabularInline[Check, Task]):
    model = Check
    fields = ["phase", "round", "command", "verdict", "exit_code", "reason", "seconds"]
    extra = 0


class ResultInline(ReadOnly, admin.StackedInline[TaskResult, Task]):
    model = TaskResult
    fields = ["kind", "summary", "content", "pull_request_url", "created_at"]
    readonly_fields = ["created_at"]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}
    extra = 0


@admin.register(Task)
class TaskAdmin(ReadOnly, admin.ModelAdmin[Task]):
    list_display = [
        "title",
        "owner",
        "repository",
        "type",
        "status",
        "outcome",
        "priority",
        "progress",
        "charged",
        "model",
        "created_at",
    ]
    list_filter = ["status", "type", "outcome", "priority", "error_code", "model", "created_at"]
    list_select_related = ["owner", "repository", "model"]
    search_fields = ["=id", "title", "owner__username", "owner__email", "repository__full_name"]
    date_hierarchy = "created_at"
    inlines = [ResultInline, CheckInline]
    actions = ["cancel"]
    readonly_fields = ["trail"]

    @admin.display(ordering="charged_microcredits", description="credits")
    def charged(self, task: Task) -> float:
        return as_credits(task.charged_microcredits)

    @admin.display(description="log and steps")
    def trail(self, task: Task) -> str:
        links = [
            (reverse(f"admin:tasks_{name}_changelist"), label, task.pk)
            for name, label in (("tasklog", "log"), ("step", "steps"), ("artifact", "artifacts"))
        ]
        first, second, third = (
            format_html('<a href="{}?task__id__exact={}">{}</a>', url, pk, label)
            for url, label, pk in links
        )
        return format_html("{} · {} · {}", first, second, third)

    @admin.action(description="Cancel the selected tasks", permissions=["view"])
    def cancel(self, request: HttpRequest, tasks: QuerySet[Task]) -> None:
        """Cancel what has not ended; say how many were refused and why."""
        by = cast("User", request.user)
        for task in tasks:
            try:
                lifecycle.cancel_task(task, by=by)
            except AppError as error:
                messages.warning(request, f"{task}: {error.message}")
            else:
                messages.success(request, f"{task}: cancelled.")


@admin.register(Step)
class StepAdmin(ReadOnly, admin.ModelAdmin[Step]):
    list_display = [
        "task",
        "ordinal",
        "attempt",
        "kind",
        "name",
        "state",
        "is_error",
        "exit_code",
        "cost",
        "started_at",
        "finished_at",
    ]
    list_filter = ["kind", "state", "is_error", "name"]
    list_select_related = ["task"]
    search_fields = ["=task__id", "name", "summary", "checkpoint"]

    @admin.display(ordering="cost_microcredits", description="credits")
    def cost(self, step: Step) -> float:
        return as_credits(step.cost_microcredits)


@admin.register(TaskLog)
class TaskLogAdmin(ReadOnly, admin.ModelAdmin[TaskLog]):
    list_display = ["task", "sequence", "kind", "level", "message", "created_at"]
    list_filter = ["kind", "level", "created_at"]
    list_select_related = ["task"]
    search_fields = ["=task__id", "message"]


@admin.register(TaskResult)
class TaskResultAdmin(ReadOnly, admin.ModelAdmin[TaskResult]):
    list_display = ["task", "kind", "pull_request_url", "created_at"]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}
    list_filter = ["kind", "created_at"]
    list_select_related = ["task"]
    search_fields = ["=task__id", "summary"]


@admin.register(Check)
class CheckAdmin(ReadOnly, admin.ModelAdmin[Check]):
    list_display = ["task", "phase", "round", "command", "verdict", "exit_code", "seconds"]
    list_filter = ["verdict", "phase", "created_at"]
    list_select_related = ["task"]
    search_fields = ["=task__id", "command"]


@admin.register(Artifact)
class ArtifactAdmin(ReadOnly, admin.ModelAdmin[Artifact]):
    list_display = ["task", "name", "content_type", "size_bytes", "created_at"]
    list_filter = ["content_type", "created_at"]
    list_select_related = ["task"]
    search_fields = ["=task__id", "name"]
    exclude = ["body"]


@admin.register(Analysis)
class AnalysisAdmin(ReadOnly, admin.ModelAdmin[Analysis]):
    list_display = [
        "task",
        "repository",
        "quality_score",
        "code_smells",
        "type_errors",
        "coverage_percent",
        "created_at",
    ]
    list_filter = ["created_at"]
    list_select_related = ["task", "repository"]
    search_fields = ["=task__id", "repository__full_name"]


@admin.register(TaskAnalytics)
class TaskAnalyticsAdmin(ReadOnly, admin.ModelAdmin[TaskAnalytics]):
    list_display = [
        "task",
        "queue_seconds",
        "run_seconds",
        "model_calls",
        "tool_calls",
        "files_changed",
        "checks_passed",
        "checks_failed",
        "lost_attempts",
    ]
    list_filter = ["created_at"]
    list_select_related = ["task"]
    search_fields = ["=task__id"]


@admin.register(WorkerHeartbeat)
class WorkerHeartbeatAdmin(ReadOnly, admin.ModelAdmin[WorkerHeartbeat]):
    list_display = ("name", "slots", "runs", "version", "started_at", "seen_at")
    search_fields = ("name",)
