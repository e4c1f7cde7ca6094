"""From what was sent to what ``tasks.lifecycle`` is asked: names and ids become rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from accounts.models import User
from aimodels.models import AIModel
from asynccoder.lib.errors import NotFound
from billing.ledger import MICROCREDITS
from repositories.models import Repository
from tasks.lifecycle import TaskRequest

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
SAME_NAME = (
    "type", "prompt", "title", "description", "branch", "target_branch", "priority",
    "parameters", "patch", "extra_calls",
)  # fmt: skip


def wanted(request: Request, given: Mapping[str, Any], **values: Any) -> TaskRequest:
    """Return the task that was asked for; ``values`` are those that the route itself decides.

    Raises NotFound for a repository or model that the user does not see.
    """
    user, cap = cast("User", request.user), given.get("max_credits")
    named: dict[str, Any] = {name: given[name] for name in SAME_NAME if name in given}
    found: dict[str, Any] = {
        "repository": repository_of(user, given.get("repository_id")),
        "model": _model(user, given),
        "files": [dict(file) for file in given.get("files", [])],
        "cap_microcredits": cap * MICROCREDITS if cap else None,
        "idempotency_key": _idempotency_key(request),
    }
    return TaskRequest(**(found | named | values))


def repository_of(user: User, pk: UUID | None) -> Repository | None:
    if pk is None:
        return None
    found: Repository | None = Repository.objects.visible_to(user).active().filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such repository.")
    return found


def _model(user: User, given: Mapping[str, Any]) -> AIModel | None:
    """Return the model that is named by its id or its name; the user's own goes first."""
    if given.get("ai_model_id"):
        models = AIModel.objects.visible_to(user).filter(pk=given["ai_model_id"])
    elif given.get("model"):
        models = AIModel.objects.for_use_by(user).filter(name=given["model"])
    else:
        return None
    found: AIModel | None = models.filter(owner=user).first() or models.first()
    if found is None:
        raise NotFound("There is no such model.")
    return found


def _idempotency_key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise ValidationError({"Idempotency-Key": ["Give 1 to 200 printable characters."]})
    return key
