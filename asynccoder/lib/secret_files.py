"""Secrets of our own: made once, kept in a file that only the instance reads."""

from __future__ import annotations

import secrets
from pathlib import Path


def kept(path: Path, *, length: int) -> str:
    """Return the secret in the file (0600); the first of several processes makes it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        candidate = path.with_suffix(f".{secrets.token_hex(4)}")
        candidate.touch(mode=0o600)
        candidate.write_text(secrets.token_urlsafe(length))
        try:
            # A hard link fails when another process was first; both then read the same secret.
            path.hardlink_to(candidate)
        except FileExistsError:
            pass
        finally:
            candidate.unlink()
    return path.read_text().strip()
