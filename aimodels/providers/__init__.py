"""The ways to reach a model. Each SDK is imported only by the adapter that is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from aimodels.providers.base import Provider
from aimodels.providers.verdict import Verdict, check

__all__ = ["ADAPTERS", "Verdict", "check", "connect", "preparations"]

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "anthropic": ("aimodels.providers.anthropic.AnthropicProvider", {}),
    "openai": (
        "aimodels.providers.openai.OpenAIProvider",
        {"output_limit_name": "max_completion_tokens"},
    ),
    "gemini": ("aimodels.providers.openai.OpenAIProvider", {}),
    "custom": ("aimodels.providers.openai.OpenAIProvider", {}),
}
"""Provider kind to the dotted path of its adapter and the adapter's own arguments."""


def preparations() -> list[Callable[[], object]]:
    """Return what can be done ahead of ``connect``, piece by piece, each a second or less of CPU."""
    modules = dict.fromkeys(path.rpartition(".")[0] for path, _ in ADAPTERS.values())
    return [_read_certificates, *(partial(importlib.import_module, name) for name in modules)]


def _read_certificates() -> None:
    from aimodels.providers.line import certificates

    certificates(trust_env=True)


def connect(  # noqa: PLR0913 - one for each thing that is configured
    kind: str,
    *,
    base_url: str,
    api_key: str,
    model: str,
    timeout: float,
    max_retries: int,
    address: str = "",
) -> Provider:
    """Return the provider's model behind its adapter; no request is made yet.

    ``timeout`` is seconds without a byte; ``address`` is the checked IP address of a user's URL.
    Raises KeyError for a kind that has no adapter.
    """
    from aimodels.providers.line import Line

    path, extra = ADAPTERS[kind]
    module, _, name = path.rpartition(".")
    adapter = getattr(importlib.import_module(module), name)
    line = Line(
        base_url=base_url,
        api_key=api_key,
        model=model,
        timeout=timeout,
        max_retries=max_retries,
        address=address,
    )
    provider: Provider = adapter(line, **extra)
    return provider
