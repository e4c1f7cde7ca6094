"""What the routes of tasks answer with, for the OpenAPI document alone."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from asynccoder.api.shapes import many, shape, words
from tasks.api.requests import IDEMPOTENCY_KEY
from tasks.api.serializers import (
    CheckSerializer,
    LogSerializer,
    PriorityField,
    ResultSerializer,
    WholeCredits,
)
from tasks.models import Status, Task, TaskType

IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    location=OpenApiParameter.HEADER,
    pattern=IDEMPOTENCY_KEY.pattern,
    description="1 to 200 printable characters: the same key and body answer with the first task.",
)
STATUS = serializers.ChoiceField(choices=Status.choices)
WORK_STATUS = serializers.ChoiceField(
    choices=["initializing", *[one for one in Status.values if one != Status.PENDING]]
)
MODEL = shape(
    "TaskModel",
    id=serializers.UUIDField(),
    name=serializers.CharField(),
    display_name=serializers.CharField(),
)


class RowSerializer(serializers.Serializer[None]):
    """A task in a list (``tasks.api.rows``)."""

    id = serializers.UUIDField()
    title = serializers.CharField()
    description = serializers.CharField()
    status = serializers.ChoiceField(choices=Status.choices)
    type = serializers.ChoiceField(choices=TaskType.choices)
    outcome = serializers.CharField()
    progress = serializers.IntegerField(min_value=0, max_value=100)
    current_step = serializers.CharField()
    branch = serializers.CharField()
    target_branch = serializers.CharField()
    priority = PriorityField()
    estimated_credits = WholeCredits()
    credits_used = WholeCredits()
    error_code = serializers.CharField(allow_null=True)
    repository = serializers.DictField(child=serializers.CharField(), allow_null=True)
    ai_model = MODEL
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)


CANCELLED = shape(
    "Cancelled", message=serializers.CharField(), id=serializers.UUIDField(), status=STATUS
)
LOG = shape(
    "TaskLog",
    task_id=serializers.UUIDField(),
    status=STATUS,
    events=LogSerializer(many=True),
    next_after=serializers.IntegerField(),
    has_more=serializers.BooleanField(),
)
BUILD_STARTED = words("BuildStarted", "task_id", "status", "message")


class BuildSerializer(serializers.Serializer[Task]):
    """A build; ``results`` once there are any."""

    task_id = serializers.UUIDField()
    project_name = serializers.CharField(allow_null=True)
    status = WORK_STATUS
    progress = serializers.IntegerField(min_value=0, max_value=100)
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    goal = serializers.CharField()
    results = serializers.DictField(allow_null=True)
    error = serializers.CharField(allow_null=True)


class AnalysisSerializer(serializers.Serializer[Task]):
    """The figures of an analysis; what is not known (yet) is null."""

    analysis_id = serializers.UUIDField()
    project_name = serializers.CharField(allow_null=True)
    repository_id = serializers.UUIDField(allow_null=True)
    branch = serializers.CharField(allow_null=True)
    analysis_types = serializers.ListField(child=serializers.CharField())
    status = WORK_STATUS
    progress = serializers.IntegerField(min_value=0, max_value=100)
    timestamp = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    performed_by = serializers.CharField()
    quality_score = serializers.FloatField(allow_null=True, min_value=0, max_value=10)
    security_issues = serializers.ListField(child=serializers.DictField(), allow_null=True)
    code_smells = serializers.IntegerField(allow_null=True)
    type_errors = serializers.IntegerField(allow_null=True)
    coverage_percent = serializers.FloatField(allow_null=True)
    recommendations = serializers.ListField(child=serializers.CharField(), allow_null=True)
    tools = serializers.DictField(allow_null=True)
    not_measured = serializers.DictField(allow_null=True)
    error = serializers.CharField(allow_null=True)


EXECUTION = shape(
    "Execution",
    task_id=serializers.UUIDField(),
    task_type=serializers.ChoiceField(choices=TaskType.choices),
    status=serializers.ChoiceField(choices=Status.choices),
    progress=serializers.IntegerField(min_value=0, max_value=100),
    model=serializers.CharField(),
    credits_used=WholeCredits(),
    result=serializers.DictField(allow_null=True),
    error=serializers.DictField(child=serializers.CharField(), allow_null=True),
    created_at=serializers.DateTimeField(),
    completed_at=serializers.DateTimeField(allow_null=True),
    task_url=serializers.CharField(),
    stream_url=serializers.CharField(),
)
RESULTS = shape(
    "TaskResults",
    task_id=serializers.UUIDField(),
    type=serializers.ChoiceField(choices=TaskType.choices),
    status=STATUS,
    outcome=serializers.CharField(),
    error=serializers.DictField(child=serializers.CharField(), allow_null=True),
    results=ResultSerializer(many=True),
    checks=CheckSerializer(many=True),
    pull_request_url=serializers.CharField(allow_null=True),
    result_branch=serializers.CharField(),
    is_pushed=serializers.BooleanField(),
    patch_url=serializers.CharField(allow_null=True),
    bundle_url=serializers.CharField(allow_null=True),
    artifacts_url=serializers.CharField(),
)
ARTIFACTS = shape(
    "TaskArtifacts",
    task_id=serializers.UUIDField(),
    status=STATUS,
    artifacts=many(
        shape(
            "TaskArtifact",
            id=serializers.CharField(),
            name=serializers.CharField(),
            title=serializers.CharField(),
            content_type=serializers.CharField(),
            size_bytes=serializers.IntegerField(allow_null=True),
            step=serializers.IntegerField(allow_null=True),
            url=serializers.CharField(),
        )
    ),
)
COUNTS = serializers.DictField(child=serializers.IntegerField())
CALLS = {
    name: serializers.IntegerField()
    for name in (
        "calls", "failures", "own_key_calls", "input_tokens", "cached_tokens", "output_tokens",
    )
}  # fmt: skip
USAGE = shape(
    "Usage",
    start_date=serializers.DateField(),
    end_date=serializers.DateField(),
    tasks=shape("TaskCounts", total=serializers.IntegerField(), by_status=COUNTS, by_type=COUNTS),
    model_calls=COUNTS,
    tokens=COUNTS,
    credits_used=serializers.FloatField(),
    models=many(
        shape(
            "UsageOfModel",
            id=serializers.UUIDField(),
            name=serializers.CharField(),
            display_name=serializers.CharField(),
            **CALLS,
            credits_used=serializers.FloatField(),
        )
    ),
    days=many(
        shape(
            "UsageOfDay",
            day=serializers.DateField(),
            **CALLS,
            credits_used=serializers.FloatField(),
        )
    ),
    limits=shape(
        "UsageLimits",
        plan=serializers.CharField(),
        requests_per_hour=serializers.IntegerField(allow_null=True),
        tasks_per_hour=serializers.IntegerField(allow_null=True),
        concurrent_tasks=serializers.IntegerField(),
        running_tasks=serializers.IntegerField(),
    ),
)
