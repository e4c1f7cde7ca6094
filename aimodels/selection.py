"""Which model does a task: the one asked for if it can, else the best that can be used."""

from __future__ import annotations

from accounts.models import User
from aimodels import access
from aimodels.errors import ModelInactive, ModelUnable, NoModel
from aimodels.models import AIModel, ProviderKind


def choose(user: User, task_type: str) -> AIModel:
    """Return an active, capable model that the user can reach; raise NoModel (503).

    Order: staff's preference, then the lower output price. The built-in engine comes last.
    """
    candidates = [
        model for model in AIModel.objects.for_use_by(user).priced() if model.can(task_type)
    ]
    reachable = access.usable(candidates, user)
    if not reachable:
        names = ", ".join(key for key, _ in access.SETTINGS.values())
        raise NoModel(
            f"No model here can do {task_type}: add a provider key of your own, or set one of"
            f" {names}.",
            details={"settings": [key for key, _ in access.SETTINGS.values()]},
        )
    return min(reachable, key=_rank)


def require(user: User, model: AIModel, task_type: str) -> AIModel:
    """Return the model if it can do this for the user now.

    Raises ModelInactive, ModelUnable, or what access.provider_access raises.
    """
    if not model.is_active:
        raise ModelInactive(f"{model} is switched off.")
    if not model.can(task_type):
        can = ", ".join(model.capabilities) or "nothing"
        raise ModelUnable(
            f"{model} cannot do {task_type}; it does {can}.",
            details={"capabilities": model.capabilities},
        )
    access.provider_access(model, user)
    return model


def _rank(model: AIModel) -> tuple[bool, int, object, str]:
    return (
        model.provider == ProviderKind.BUILTIN,
        model.preference,
        model.output_price,
        model.name,
    )
