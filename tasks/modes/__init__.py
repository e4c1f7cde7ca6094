"""One file per task type: prompt, tools, what done means, how the result is made."""

from __future__ import annotations

from tasks.modes import ask, debug
from tasks.modes.base import Mode

MODES: dict[str, Mode] = {mode.type: mode for mode in (debug.MODE, ask.MODE)}
