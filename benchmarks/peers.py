"""The peers that a benchmark measures against, where ``make peers`` has installed them."""

from __future__ import annotations

from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin"


def peer(program: str) -> Path | None:
    """Return the path of a peer's program, or of its ``python``; None where it is not installed."""
    path = PEERS / program
    return path if path.exists() else None
