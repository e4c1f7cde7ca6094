"""Which key and which address a model is reached with, for one user."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from django.conf import settings

from accounts.models import User
from aimodels import keys
from aimodels.errors import ModelInactive, ModelNotOwn, ModelNotUsable
from aimodels.models import (
    AIModel,
    ProviderConfig,
    ProviderKey,
    ProviderKeyQuerySet,
    ProviderKind,
)
from asynccoder.lib import outbound
from asynccoder.lib.fields import Secret

# The setting of a provider's key and of its address.
SETTINGS: Final = {
    ProviderKind.ANTHROPIC: ("CLAUDE_API_KEY", "ANTHROPIC_BASE_URL"),
    ProviderKind.OPENAI: ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    ProviderKind.GEMINI: ("GEMINI_API_KEY", "GEMINI_BASE_URL"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach a model. ``is_own_key``: the user pays the provider, the platform nothing.

    ``address`` is the checked IP address of a user's own URL; nothing else is connected to.
    """

    kind: str
    model_name: str
    base_url: str = ""
    address: str = ""
    api_key: Secret = field(default_factory=lambda: Secret(""))
    is_own_key: bool = False
    key_id: UUID | None = None
    """The row of the user's own key, where there is one."""


def provider_access(model: AIModel, user: User) -> Access:
    """Return how this user reaches the model; raise ModelNotUsable, ModelNotOwn, ModelInactive or UrlRefused.

    The user's own active key comes first, then staff's configuration, then the environment. A
    custom model never gets a key of the platform: its address was chosen by somebody else.
    """
    if not model.is_active:
        raise ModelInactive
    if model.provider == ProviderKind.BUILTIN:
        return Access(kind=model.provider, model_name=model.name)
    if model.provider == ProviderKind.CUSTOM:
        return _custom(model, user)
    if model.provider not in SETTINGS:
        raise ModelNotUsable(f"Models of {model.get_provider_display()} are not installed here.")
    return _known(model, user)


def is_usable(model: AIModel, user: User) -> bool:
    """Tell whether the model is active and the user has a way to reach it."""
    return bool(usable([model], user))


def usable(models: Iterable[AIModel], user: User) -> list[AIModel]:
    """Return those of the models that the user can reach now, in two queries for any number."""
    reachable = _reachable_providers(user)
    return [model for model in models if model.is_active and _is_reachable(model, user, reachable)]


def _reachable_providers(user: User) -> set[str]:
    """Return the providers that a key leads to, and "custom" if staff gave it an address."""
    own = ProviderKey.objects.visible_to(user).usable()
    reachable = set(own.values_list("provider", flat=True)) - {ProviderKind.CUSTOM.value}
    reachable |= {kind.value for kind, (key, _) in SETTINGS.items() if getattr(settings, key)}
    for config in ProviderConfig.objects.filter(is_active=True):
        needed = config.base_url if config.provider == ProviderKind.CUSTOM else config.sealed_key
        if needed:
            reachable.add(config.provider)
    return reachable


def _is_reachable(model: AIModel, user: User, reachable: set[str]) -> bool:
    if model.provider == ProviderKind.BUILTIN:
        return True
    if model.provider == ProviderKind.CUSTOM:
        is_for_user = model.owner_id is None or model.owner_id == user.pk
        return is_for_user and bool(model.base_url or model.provider in reachable)
    return model.provider in SETTINGS and model.provider in reachable


def _known(model: AIModel, user: User) -> Access:
    key_setting, url_setting = SETTINGS[ProviderKind(model.provider)]
    config = ProviderConfig.objects.filter(provider=model.provider, is_active=True).first()
    base_url = (config.base_url if config else "") or getattr(settings, url_setting)
    own = _own_key(user, model.provider)
    secret = keys.reveal(own) if own else Secret("")
    secret = secret or (keys.reveal_config(config) if config else Secret(""))
    secret = secret or Secret(getattr(settings, key_setting))
    if not secret:
        raise ModelNotUsable(
            f"{model} needs a key of {model.get_provider_display()}: add your own, or set"
            f" {key_setting}.",
            details={"setting": key_setting},
        )
    return Access(
        kind=model.provider,
        model_name=model.name,
        base_url=base_url,
        api_key=secret,
        is_own_key=bool(own),
        key_id=own.pk if own else None,
    )


def _custom(model: AIModel, user: User) -> Access:
    """Reach a custom model: its owner's with the owner's key, a shared one as staff configured.

    A shared model with an address of its own gets no key: the configured key belongs to the
    configured address.
    """
    if model.owner_id is not None:
        return _own_custom(model, user)
    if model.base_url:
        return Access(kind=model.provider, model_name=model.name, base_url=model.base_url)
    config = ProviderConfig.objects.filter(provider=model.provider, is_active=True).first()
    if config is None or not config.base_url:
        raise ModelNotUsable(f"{model} has no address: staff set it in its row.")
    return Access(
        kind=model.provider,
        model_name=model.name,
        base_url=config.base_url,
        api_key=keys.reveal_config(config),
    )


def _own_custom(model: AIModel, user: User) -> Access:
    if model.owner_id != user.pk:
        raise ModelNotOwn("Only its owner can use this model.")
    destination = outbound.check(model.base_url)
    own = _own_key(user, model.provider)
    return Access(
        kind=model.provider,
        model_name=model.name,
        base_url=model.base_url,
        address=destination.address,
        api_key=keys.reveal(own) if own else Secret(""),
        is_own_key=True,
        key_id=own.pk if own else None,
    )


def _own_key(user: User, provider: str) -> ProviderKey | None:
    """Return the user's newest usable key of a provider."""
    usable: ProviderKeyQuerySet = ProviderKey.objects.visible_to(user).usable()
    return usable.filter(provider=provider).order_by("-created_at").first()
