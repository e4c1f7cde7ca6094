"""How log lines look: with the request's or task's id, without secrets, as text or JSON."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

from asynccoder.lib import redact

request_id: ContextVar[str] = ContextVar("request_id", default="")
task_id: ContextVar[str] = ContextVar("task_id", default="")


class Plain(logging.Formatter):
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
            **_context(),
        }
        if record.exc_info:
            line["traceback"] = redact.text(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _context() -> dict[str, str]:
    found = {"request_id": request_id.get(), "task_id": task_id.get()}
    return {name: value for name, value in found.items() if value}
