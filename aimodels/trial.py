"""Trying a model once, with the key and the address that a task of this user would have."""

from __future__ import annotations

from contextlib import closing

from accounts.models import User
from aimodels import access, providers, usage
from aimodels.models import AIModel, ProviderKind
from aimodels.providers import Verdict

TRIAL_SECONDS = 20.0


def attempt(model: AIModel, user: User) -> Verdict:
    """Ask the model for one word; raise what access.provider_access raises when there is no way."""
    found = access.provider_access(model, user)
    if found.kind == ProviderKind.BUILTIN:
        return Verdict("works", "The built-in engine is part of the platform.", 0.0)
    provider = providers.connect(
        found.kind,
        base_url=found.base_url,
        address=found.address,
        api_key=found.api_key.reveal(),
        model=found.model_name,
        timeout=TRIAL_SECONDS,
        max_retries=0,
    )
    with closing(provider):
        verdict = providers.check(provider)
    usage.log_key(
        usage.Call(
            model=model,
            user_id=user.pk,
            reference="trial",
            tokens=verdict.tokens,
            seconds=verdict.seconds,
            failure="" if verdict.works else verdict.outcome,
            key_id=found.key_id,
        )
    )
    return verdict
