"""What a step's row keeps, and what is read back from it on resume."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from aimodels.models import AIModel
from aimodels.providers.base import ContextOverflow, MalformedReply, Reply
from asynccoder.lib import storable
from tasks.agent.ports import ToolResult
from tasks.lease import hold_reference
from tasks.models import Step


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A commit of the workspace, stored outside the sandbox."""

    commit: str
    tree: str


@dataclass(frozen=True, slots=True)
class Money:
    """How a run pays: the model's prices, the cap, and whether the user's own key is used."""

    model: AIModel
    cap_microcredits: int
    is_own_key: bool = False
    key_id: UUID | None = None
    """The row of the own key, for its log."""


def call_reference(step: Step) -> str:
    """Return the ledger reference of a model call: unique, so it is charged once."""
    return f"{hold_reference(step.task_id)}:call:{step.ordinal}"


def digest_of(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def replayed_reply(step: Step) -> Reply:
    """Return the recorded answer, or raise the recorded MalformedReply or ContextOverflow."""
    if not step.is_error:
        return Reply.from_json(step.outcome)
    recorded = json.loads(step.outcome)
    if recorded["error"] == ContextOverflow.__name__:
        raise ContextOverflow(recorded["message"])
    raise MalformedReply(recorded["message"])


def without_bytes(result: ToolResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if name != "full"}


def first_line(text: str) -> str:
    return storable.text((text.strip().splitlines() or [""])[0][:300])


def input_summary(step: Step) -> str:
    if step.kind == Step.Kind.MODEL_CALL:
        return "The model thinks"
    return f"{step.name} {first_line(step.input)}"[:300].strip()
