"""Texts as every database takes them. This module knows no Django.

PostgreSQL refuses a NUL, in JSON too, and no UTF-8 holds half of a surrogate pair. Both come out of
any command that prints a binary file; they must not end the run that reads them.
"""

from __future__ import annotations

from typing import Any


def text(value: str) -> str:
    """Return the text with each NUL and lone surrogate replaced by a mark that can be seen."""
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def data(value: Any) -> Any:
    """Return JSON-like data with every text in it made storable, names of fields too."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {data(key): data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    return value
