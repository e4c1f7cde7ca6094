"""A list of tasks without building objects: only the columns that a row shows are read."""

from __future__ import annotations

from typing import Any

from billing.ledger import whole_credits
from tasks.api.serializers import LABELS

SAME_NAME = (
    "id",
    "title",
    "description",
    "status",
    "type",
    "outcome",
    "progress",
    "current_step",
    "branch",
    "target_branch",
    "created_at",
    "started_at",
    "completed_at",
)
COLUMNS = (
    *SAME_NAME,
    "priority",
    "estimated_microcredits",
    "charged_microcredits",
    "error_code",
    "repository_id",
    "repository__name",
    "repository__full_name",
    "model_id",
    "model__name",
    "model__display_name",
)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of COLUMNS as the list of tasks shows it."""
    return {name: row[name] for name in SAME_NAME} | {
        "priority": LABELS[row["priority"]],
        "estimated_credits": whole_credits(row["estimated_microcredits"]),
        "credits_used": whole_credits(row["charged_microcredits"]),
        "error_code": row["error_code"] or None,
        "repository": _repository(row),
        "ai_model": {
            "id": row["model_id"],
            "name": row["model__name"],
            "display_name": row["model__display_name"],
        },
    }


def _repository(row: dict[str, Any]) -> dict[str, Any] | None:
    if row["repository_id"] is None:
        return None
    return {
        "id": row["repository_id"],
        "name": row["repository__name"],
        "full_name": row["repository__full_name"],
    }
