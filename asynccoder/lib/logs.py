"""How log lines look: with the request's or task's id, without secrets, as text or JSON."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from asynccoder.lib import redact

request_id: ContextVar[str] = ContextVar("request_id", default="")
task_id: ContextVar[str] = ContextVar("task_id", default="")
user_id: ContextVar[str] = ContextVar("user_id", default="")
"""Who a socket belongs to, for its own line alone."""


def settings(*, level: str, format_name: str) -> dict[str, Any]:
    """Return Django's LOGGING: everything to standard error, as ``text`` or ``json``."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"()": "asynccoder.lib.logs.Text"},
            "json": {"()": "asynccoder.lib.logs.Json"},
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": format_name}},
        "root": {"handlers": ["console"], "level": level},
        # Django's own handlers would write the same line again, without the mask.
        "loggers": {
            "django": {"handlers": [], "propagate": True},
            # Every request has a line already; what is left are crashes, with their tracebacks.
            "django.request": {"level": "ERROR"},
            # One line for each model call, with the whole address, is no news.
            "httpx2": {"level": "WARNING"},
        },
    }


class Text(logging.Formatter):
    """One line a record, for people; secrets are masked, tracebacks included."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        context = " ".join(f"{name}={value}" for name, value in _context().items())
        return redact.text(f"{super().format(record)} {context}".rstrip())


class Json(logging.Formatter):
    """One JSON object a record, for machines; secrets are masked, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact.text(record.getMessage()),
            **{name: _masked(value) for name, value in getattr(record, "fields", {}).items()},
            **_context(),
        }
        if record.exc_info:
            line["traceback"] = redact.text(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def write_request(logger: logging.Logger, level: int, **fields: Any) -> None:
    """Write the line of one request or socket; as JSON each field has a name of its own.

    Fields: method, path (without its query), status, milliseconds, user_id, address.
    """
    words = "{method} {path} {status} {milliseconds} ms user={user} from={address}"
    shown = words.format_map(fields | {"user": fields["user_id"] or "-"})
    logger.log(level, "%s", shown, extra={"fields": fields})


def _masked(value: Any) -> Any:
    return redact.text(value) if isinstance(value, str) else value


def _context() -> dict[str, str]:
    found = {"request_id": request_id.get(), "task_id": task_id.get()}
    return {name: value for name, value in found.items() if value}
