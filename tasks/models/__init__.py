"""A task, its journal of steps, its log, and what it hands back."""

from __future__ import annotations

from tasks.models.heartbeat import WorkerHeartbeat
from tasks.models.journal import Artifact, Step, TaskLog
from tasks.models.result import Analysis, Check, TaskAnalytics, TaskResult
from tasks.models.task import (
    CHANGING,
    TERMINAL,
    WORK,
    Priority,
    Status,
    Task,
    TaskQuerySet,
    TaskType,
)

__all__ = [
    "CHANGING",
    "TERMINAL",
    "WORK",
    "Analysis",
    "Artifact",
    "Check",
    "Priority",
    "Status",
    "Step",
    "Task",
    "TaskAnalytics",
    "TaskLog",
    "TaskQuerySet",
    "TaskResult",
    "TaskType",
    "WorkerHeartbeat",
]
