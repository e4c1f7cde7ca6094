"""``/api/v1/users/usage``: what an account did and used, from the rows that the work itself wrote."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, cast

from django.db.models import Count, F, Sum
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from aimodels.models import ModelUsage, ModelUsageQuerySet
from billing import ledger, limits
from billing.usage import moments, spent_by_day
from tasks.api.shapes import USAGE
from tasks.models import Status, Task, TaskQuerySet, TaskType

DAYS = 30
MOST_DAYS = 366
SUMS = ("calls", "failures", "own_key_calls", "input_tokens", "cached_tokens", "output_tokens")


class UsageQuery(serializers.Serializer[None]):
    """Which days (UTC), both ends included; the last thirty without any."""

    start_date = serializers.DateField(required=False)
    end_date = serializers.DateField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        last = attrs.get("end_date") or timezone.now().date()
        first = attrs.get("start_date") or _days_before(last, DAYS - 1)
        if not 0 <= (last - first).days < MOST_DAYS:
            message = f"Give at most {MOST_DAYS} days, the first one first."
            raise serializers.ValidationError({"start_date": [message]})
        return {"first": first, "last": last}


class UsageView(APIView):
    """Tasks, model calls, tokens and credits of the own account, and what its plan allows."""

    resource = "task"

    @extend_schema(parameters=[UsageQuery], responses=USAGE)
    def get(self, request: Request) -> Response:
        query = UsageQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        return Response(summary(cast("User", request.user), **query.validated_data))


def summary(user: User, first: date, last: date) -> dict[str, Any]:
    """Return the usage of an account between two days, both included; credits are credits."""
    tasks = Task.objects.visible_to(user).filter(owner=user, created_at__range=moments(first, last))
    used = ModelUsage.objects.visible_to(user).filter(user=user, day__range=(first, last))
    totals, spent = used.totals(), spent_by_day(user, first, last)
    return {
        "start_date": first,
        "end_date": last,
        "tasks": _tasks(tasks),
        "model_calls": {name: totals[name] for name in SUMS[:3]},
        "tokens": {name.removesuffix("_tokens"): totals[name] for name in SUMS[3:]},
        "credits_used": ledger.as_credits(sum(spent.values())),
        "models": _models(used),
        "days": _days(used, spent),
        "limits": _limits(user),
    }


def _tasks(tasks: TaskQuerySet) -> dict[str, Any]:
    rows = tasks.order_by().values_list("status", "type").annotate(Count("pk"))
    by_status = dict.fromkeys(Status.values, 0)
    by_type = dict.fromkeys(TaskType.values, 0)
    for status, type_, number in rows:
        by_status[status] += number
        by_type[type_] += number
    return {"total": sum(by_status.values()), "by_status": by_status, "by_type": by_type}


def _models(used: ModelUsageQuerySet) -> list[dict[str, Any]]:
    """Return the figures of each model, the one with most calls first."""
    named = {"name": F("model__name"), "display_name": F("model__display_name")}
    sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in (*SUMS, "charged_microcredits")}
    rows: Any = used.order_by().values("model_id", **named).annotate(**sums)
    return [
        {
            "id": row["model_id"],
            "name": row["name"],
            "display_name": row["display_name"],
            **{name: row[f"sum_{name}"] for name in SUMS},
            "credits_used": ledger.as_credits(row["sum_charged_microcredits"]),
        }
        for row in sorted(rows, key=lambda row: (-row["sum_calls"], row["name"]))
    ]


def _days(used: ModelUsageQuerySet, spent: dict[date, int]) -> list[dict[str, Any]]:
    """Return each day on which something was used, the oldest first."""
    sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in SUMS}
    rows: Any = used.order_by().values("day").annotate(**sums)
    by_day = {row["day"]: row for row in rows}
    return [
        {
            "day": day,
            **{name: by_day[day][f"sum_{name}"] if day in by_day else 0 for name in SUMS},
            "credits_used": ledger.as_credits(spent.get(day, 0)),
        }
        for day in sorted(by_day.keys() | spent.keys())
    ]


def _limits(user: User) -> dict[str, Any]:
    allowed = limits.of_plan(user.plan)
    return {
        "plan": user.plan,
        "requests_per_hour": allowed.requests_per_hour if allowed else None,
        "tasks_per_hour": allowed.tasks_per_hour if allowed else None,
        "concurrent_tasks": user.concurrent_tasks,
        "running_tasks": user.running_tasks,
    }


def _days_before(day: date, days: int) -> date:
    try:
        return day - timedelta(days=days)
    except OverflowError:
        return day
