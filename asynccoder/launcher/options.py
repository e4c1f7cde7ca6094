"""What the launcher must know before Django can: read from the environment and ``.env``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The values of the settings of the same names."""

    var_dir: Path
    host: str
    port: int
    public_url: str
    redis_url: str
    is_production: bool
    stop_seconds: float

    def child_environment(self) -> dict[str, str]:
        """Return the environment of every process that the launcher starts."""
        return os.environ | {"VAR_DIR": str(self.var_dir), "PYTHONUNBUFFERED": "1"}


def read() -> Options:
    """Read the options as ``asynccoder.settings`` will, without making anything."""
    env = environ.Env()
    environ.Env.read_env(env.str("ENV_FILE", default=str(BASE_DIR / ".env")))
    port = env.int("PORT", default=8000)
    return Options(
        var_dir=(BASE_DIR / env.str("VAR_DIR", default="var")).resolve(),
        host=env.str("HOST", default="127.0.0.1"),
        port=port,
        public_url=env.str("PUBLIC_URL", default=f"http://localhost:{port}").rstrip("/"),
        redis_url=env.str("REDIS_URL", default=""),
        is_production=env.str("ENVIRONMENT", default="development") == "production",
        stop_seconds=env.float("STOP_SECONDS", default=25),
    )
