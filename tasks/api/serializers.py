"""Tasks on the wire, and the shape of what is asked for. Rules are ``tasks.lifecycle``'s."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from asynccoder.api.dialects import Foreign
from asynccoder.api.typed import Typed
from billing.ledger import whole_credits
from tasks.models import Check, Priority, Status, Task, TaskLog, TaskResult, TaskType

ANALYSIS_TYPES = ("quality", "security", "types")
PARAMETERS_BYTES = 64 * 1024
LABELS = {priority.value: priority.label for priority in Priority}
VALUES = {priority.label: priority.value for priority in Priority}


@extend_schema_field(OpenApiTypes.INT)
class WholeCredits(serializers.Field[int, int, int, Any]):
    def to_representation(self, value: int) -> int:
        return whole_credits(value)


@extend_schema_field({"type": "string", "enum": list(VALUES)})
class PriorityField(serializers.Field[int, str, str, Any]):
    """``low``, ``medium``, ``high`` or ``urgent``."""

    def to_representation(self, value: int) -> str:
        return LABELS[value]

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, str) or data not in VALUES:
            raise serializers.ValidationError(f"Give one of {', '.join(VALUES)}.")
        return VALUES[data]


class ResultSerializer(serializers.ModelSerializer[TaskResult]):
    result_type = serializers.CharField(source="kind")

    class Meta:
        model = TaskResult
        fields = [
            "id",
            "result_type",
            "summary",
            "content",
            "diff",
            "files",
            "data",
            "pull_request_url",
            "created_at",
        ]

    def to_representation(self, instance: TaskResult) -> dict[str, Any]:
        """Keep the keys in ``data`` as they are: names of the user's code may be among them."""
        return dict(super().to_representation(instance)) | {"data": Foreign(instance.data)}


class CheckSerializer(serializers.ModelSerializer[Check]):
    class Meta:
        model = Check
        fields = [
            "phase",
            "round",
            "command",
            "verdict",
            "exit_code",
            "reason",
            "output",
            "seconds",
            "commit",
            "created_at",
        ]


class LogSerializer(serializers.ModelSerializer[TaskLog]):
    class Meta:
        model = TaskLog
        fields = ["sequence", "kind", "level", "message", "data", "created_at"]


class TaskSerializer(serializers.ModelSerializer[Task]):
    """A task as its page shows it. Give it with repository, model, result and checks loaded."""

    priority = PriorityField()
    estimated_credits = WholeCredits(source="estimated_microcredits")
    credits_used = WholeCredits(source="charged_microcredits")
    credit_limit = WholeCredits(source="cap_microcredits")
    repository = serializers.SerializerMethodField()
    ai_model = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    results = serializers.SerializerMethodField()
    checks = CheckSerializer(many=True)
    pull_request_url = serializers.SerializerMethodField()
    tokens = serializers.SerializerMethodField()
    log_url = serializers.SerializerMethodField()
    stream_url = serializers.SerializerMethodField()
    patch_url = serializers.SerializerMethodField()
    bundle_url = serializers.SerializerMethodField()
    artifacts_url = serializers.SerializerMethodField()

    class Meta:
        model = Task
        fields = [
            "id",
            "title",
            "description",
            "prompt",
            "type",
            "status",
            "outcome",
            "priority",
            "progress",
            "current_step",
            "plan",
            "branch",
            "target_branch",
            "parameters",
            "estimated_credits",
            "credits_used",
            "credit_limit",
            "tokens",
            "error",
            "repository",
            "ai_model",
            "base_commit",
            "head_commit",
            "result_branch",
            "is_pushed",
            "pull_request_url",
            "results",
            "checks",
            "log_url",
            "stream_url",
            "patch_url",
            "bundle_url",
            "artifacts_url",
            "created_at",
            "updated_at",
            "started_at",
            "completed_at",
        ]

    def get_repository(self, task: Task) -> dict[str, str] | None:
        if task.repository is None:
            return None
        repository = task.repository
        return {
            "id": str(repository.pk),
            "name": repository.name,
            "full_name": repository.full_name,
        }

    def get_ai_model(self, task: Task) -> dict[str, str]:
        model = task.model
        return {"id": str(model.pk), "name": model.name, "display_name": model.display_name}

    def get_error(self, task: Task) -> dict[str, str] | None:
        if not task.error_code:
            return None
        return {"code": task.error_code, "message": task.error_message}

    @extend_schema_field(ResultSerializer(many=True))
    def get_results(self, task: Task) -> list[dict[str, Any]]:
        result = _result(task)
        return [dict(ResultSerializer(result).data)] if result else []

    def get_pull_request_url(self, task: Task) -> str | None:
        result = _result(task)
        return (result.pull_request_url or None) if result else None

    def get_tokens(self, task: Task) -> dict[str, int]:
        return {
            "input": task.input_tokens,
            "cached": task.cached_tokens,
            "output": task.output_tokens,
        }

    def get_log_url(self, task: Task) -> str:
        return f"/api/v1/tasks/{task.pk}/log"

    def get_stream_url(self, task: Task) -> str:
        return f"/api/v1/tasks/{task.pk}/stream"

    def get_bundle_url(self, task: Task) -> str | None:
        result = _result(task)
        return f"/api/v1/tasks/{task.pk}/bundle" if result and result.diff else None

    def get_artifacts_url(self, task: Task) -> str:
        return f"/api/v1/tasks/{task.pk}/artifacts"

    def get_patch_url(self, task: Task) -> str | None:
        result = _result(task)
        return f"/api/v1/tasks/{task.pk}/patch" if result and result.diff else None


def _result(task: Task) -> TaskResult | None:
    return getattr(task, "result", None)


class FileSerializer(Typed, serializers.Serializer[None]):
    path = serializers.CharField(max_length=1000)
    content = serializers.CharField(allow_blank=True, trim_whitespace=False)


class OptionsSerializer(Typed, serializers.Serializer[None]):
    """What every way to start a task takes.

    ``model`` is a name, ``ai_model_id`` an id; without both one is chosen.
    """

    ai_model_id = serializers.UUIDField(required=False, allow_null=True)
    model = serializers.CharField(max_length=120, required=False, allow_null=True)
    branch = serializers.CharField(max_length=255, required=False, allow_blank=True)
    priority = PriorityField(required=False)
    parameters = serializers.DictField(required=False)
    max_credits = serializers.IntegerField(min_value=1, max_value=1_000_000, required=False)
    extra_calls = serializers.IntegerField(min_value=0, max_value=1_000, required=False)

    def validate_parameters(self, value: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(value).encode()) > PARAMETERS_BYTES:
            raise serializers.ValidationError(f"At most {PARAMETERS_BYTES:,} bytes.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("ai_model_id") and attrs.get("model"):
            raise serializers.ValidationError("Give either ai_model_id or model.")
        return attrs


class TaskRequestSerializer(OptionsSerializer):
    """What S0 and S1 send."""

    type = serializers.ChoiceField(choices=TaskType.choices)
    prompt = serializers.CharField(trim_whitespace=False)
    title = serializers.CharField(max_length=200, required=False, allow_blank=True)
    description = serializers.CharField(max_length=10_000, required=False, allow_blank=True)
    repository_id = serializers.UUIDField(required=False, allow_null=True)
    target_branch = serializers.CharField(max_length=255, required=False, allow_blank=True)
    files = FileSerializer(many=True, required=False)
    patch = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)


class BuildRequestSerializer(OptionsSerializer):
    """What S2 sends to start a build."""

    project_name = serializers.CharField(trim_whitespace=False)
    goal = serializers.CharField(trim_whitespace=False)
    files = FileSerializer(many=True, required=False)


class ExecuteRequestSerializer(OptionsSerializer):
    """What S3 sends. ``context`` (persona, framework, …) goes with the parameters."""

    task_type = serializers.ChoiceField(choices=TaskType.choices)
    prompt = serializers.CharField(trim_whitespace=False)
    repository_id = serializers.UUIDField(required=False, allow_null=True)
    target_branch = serializers.CharField(max_length=255, required=False, allow_blank=True)
    files = FileSerializer(many=True, required=False)
    patch = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)
    context = serializers.DictField(required=False)  # type: ignore[assignment] # a field, as S3 names it

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        attrs["parameters"] = self.validate_parameters(
            attrs.get("context", {}) | attrs.get("parameters", {})
        )
        return attrs


class WaitQuery(serializers.Serializer[None]):
    """How many seconds to wait for the result."""

    wait = serializers.IntegerField(min_value=0, max_value=60, default=0)


class AnalysisRequestSerializer(OptionsSerializer):
    """What S2 sends to start an analysis; without ``analysis_types`` everything is measured."""

    project_name = serializers.CharField(required=False, trim_whitespace=False)
    repository_id = serializers.UUIDField(required=False)
    analysis_types = serializers.MultipleChoiceField(
        choices=ANALYSIS_TYPES, required=False, allow_empty=False, default=set(ANALYSIS_TYPES)
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("project_name" in attrs) == ("repository_id" in attrs):
            raise serializers.ValidationError("Give either project_name or repository_id.")
        return super().validate(attrs)


class TaskEditSerializer(Typed, serializers.Serializer[None]):
    """What of a pending task can be edited; a missing field stays as it is."""

    title = serializers.CharField(max_length=200, required=False)
    description = serializers.CharField(max_length=10_000, required=False, allow_blank=True)
    priority = PriorityField(required=False)


class TaskFilter(serializers.Serializer[None]):
    status = serializers.ChoiceField(choices=Status.choices, required=False)
    type = serializers.ChoiceField(choices=TaskType.choices, required=False)
    repository_id = serializers.UUIDField(required=False)


class LogQuery(serializers.Serializer[None]):
    """Which events: those after a sequence number, at most ``limit``."""

    after = serializers.IntegerField(min_value=0, max_value=2**62, default=0)
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=200)
