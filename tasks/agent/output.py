"""How a tool's output is shown to the model: nothing hidden in it, and bounded.

Repository text is data written by strangers. Characters that a person would not see but a model
reads (zero-width, bidirectional, tag block, variation selectors) are made visible.
"""

from __future__ import annotations

import hashlib
import re

from tasks.agent.ports import ToolResult

CONTROL = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")
INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0"
    "\ufff9-\ufffb\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Return the text with every invisible character written as ⟨U+XXXX⟩."""
    return INVISIBLE.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def readable(raw: bytes) -> str:
    """Return a command's output as a person would see it: no colours, no overwritten progress."""
    text = CONTROL.sub("", raw.decode("utf-8", "replace").replace("\r\n", "\n"))
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return visible(text)


def clip(text: str, limit: int, *, place: str = "") -> str:
    """Return at most about ``limit`` characters: head and tail, with a notice between them."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit // 2], text[-(limit // 2) :]
    head = head[: head.rfind("\n") + 1] or head
    tail = tail[tail.find("\n") + 1 :] or tail
    where = f"; all of it is in {place}" if place else ""
    left_out = len(text) - len(head) - len(tail)
    return f"{head}\n[… {left_out:,} of {len(text):,} characters left out{where} …]\n{tail}"


def place_of(text: str) -> str:
    """Return where in the sandbox the whole of an output is put: a name that its content gives."""
    return f"/tmp/output-{hashlib.sha256(text.encode()).hexdigest()[:8]}.txt"  # noqa: S108 - the sandbox's own /tmp


def failed(text: str, *, summary: str = "") -> ToolResult:
    """Return an error for the model: errors of tools are text."""
    return ToolResult(text, is_error=True, summary=summary or text.splitlines()[0][:200])


def one_line(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
