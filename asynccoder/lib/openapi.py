"""What drf-spectacular is told of the document; settings.py is the only caller."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Async Coder",
    "LICENSE": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "SERVERS": [{"url": "/"}],
    "POSTPROCESSING_HOOKS": ["asynccoder.api.schema.in_dialects"],
}
