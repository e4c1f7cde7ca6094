"""Users' own models: endpoints that speak OpenAI's protocol, at addresses that users give."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from accounts.models import User
from aimodels.errors import ModelExists, ModelNotOwn
from aimodels.models import TASK_TYPES, AIModel, ProviderKind
from asynccoder.lib import outbound

FREE = {
    "input_price": Decimal(0),
    "cached_input_price": Decimal(0),
    "cache_write_price": Decimal(0),
    "output_price": Decimal(0),
}


def add(*, owner: User, values: dict[str, Any]) -> AIModel:
    """Store a user's model. Raises UrlRefused for an address inside, ModelExists for a name taken."""
    outbound.check(values["base_url"])
    model = AIModel(
        **(
            FREE
            | {"capabilities": list(TASK_TYPES), "display_name": values["name"]}
            | values
            | {"owner": owner, "provider": ProviderKind.CUSTOM}
        )
    )
    _save(model)
    return model


def edit(model: AIModel, *, by: User, values: dict[str, Any]) -> AIModel:
    """Change a user's own model; raise ModelNotOwn, UrlRefused or ModelExists."""
    _refuse_others(model, by)
    if "base_url" in values:
        outbound.check(values["base_url"])
    for name, value in values.items():
        setattr(model, name, value)
    _save(model)
    return model


def remove(model: AIModel, *, by: User) -> None:
    """Delete a user's own model, or switch it off where tasks were done with it."""
    _refuse_others(model, by)
    try:
        model.delete()
    except ProtectedError:
        AIModel.objects.filter(pk=model.pk).update(is_active=False)


def _save(model: AIModel) -> None:
    try:
        with transaction.atomic():
            model.save()
    except IntegrityError:
        raise ModelExists(f"You have a model named {model.name!r} already.") from None


def _refuse_others(model: AIModel, user: User) -> None:
    if model.owner_id != user.pk:
        raise ModelNotOwn
