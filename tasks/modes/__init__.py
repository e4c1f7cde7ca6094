"""One file per task type: prompt, tools, what done means, how the result is made."""

from __future__ import annotations

from tasks.modes import (
    analysis,
    architect,
    ask,
    build,
    debug,
    documentation,
    implement,
    pr_review,
)
from tasks.modes.base import Mode

__all__ = ["MODES", "Mode"]

ALL = (debug, ask, documentation, architect, pr_review, build, implement, analysis)
MODES: dict[str, Mode] = {module.MODE.type: module.MODE for module in ALL}
