"""Builders for the tests of models and keys."""

from __future__ import annotations

from typing import Any

from aimodels.models import TASK_TYPES, AIModel, ProviderKind


def make_model(name: str = "test-model", **values: Any) -> AIModel:
    """Return a stored model at US$ 2 and 10 per million tokens; cached input a tenth."""
    defaults: dict[str, Any] = {
        "provider": ProviderKind.ANTHROPIC,
        "display_name": name,
        "capabilities": list(TASK_TYPES),
        "input_price": "0.000002",
        "cached_input_price": "0.0000002",
        "cache_write_price": "0.0000025",
        "output_price": "0.00001",
    }
    return AIModel.objects.create(name=name, **(defaults | values))
