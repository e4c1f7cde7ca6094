"""The settings of a test run: the real ones, in an environment that only the run knows.

Nothing of the operator's reaches the tests: neither ``.env`` nor a variable that ``.env.example``
names. A server is used only where TEST_DATABASE_URL or TEST_REDIS_URL names it; without them every
pytest process has its own SQLite file and its own Redis (started in the root ``conftest.py``).
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from asynccoder import redis_server

ROOT = Path(__file__).resolve().parents[2]


def _run_folder() -> Path:
    """Return the folder of this run; the workers of pytest-xdist inherit its name."""
    if "ASYNCCODER_TEST_RUN" not in os.environ:
        os.environ["ASYNCCODER_TEST_RUN"] = tempfile.mkdtemp(prefix="asynccoder-test-")
        atexit.register(shutil.rmtree, os.environ["ASYNCCODER_TEST_RUN"], ignore_errors=True)
    return Path(os.environ["ASYNCCODER_TEST_RUN"])


def _forget_operator() -> None:
    for name in re.findall(
        r"^#?(?!TEST_)([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M
    ):
        os.environ.pop(name, None)


def _enter() -> None:
    """Set the environment of this pytest process."""
    _forget_operator()
    run = _run_folder()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    var_dir = run / worker
    # Whitenoise warns of a folder of static files that does not exist.
    (var_dir / "static").mkdir(exist_ok=True, parents=True, mode=0o755)
    os.environ |= {
        "ENV_FILE": os.devnull,
        "ENVIRONMENT": "test",
        "VAR_DIR": str(var_dir),
        "DATABASE_URL": os.environ.get("TEST_DATABASE_URL") or f"sqlite:///{var_dir}/db.sqlite3",
        "REDIS_URL": os.environ.get("TEST_REDIS_URL") or redis_server.url(var_dir),
        "REDIS_PREFIX": f"{run.name}-{worker}",
        "SECRET_KEY": "a secret key for tests, the same in every process",
        "JWT_SECRET": "a token secret for tests, the same in every process",
        "FIELD_ENCRYPTION_KEYS": "test:YSBzZWNyZXQga2V5IG9mIDMyIGJ5dGVzIGZvciB0c3Q",
    }


# A process that a test started is given its environment (asynccoder.tests.processes).
if "ASYNCCODER_TEST_CHILD" not in os.environ:
    _enter()

from asynccoder.settings import *  # noqa: E402, F403  # the environment comes first
from asynccoder.settings import DATABASES, VAR_DIR  # noqa: E402  # the environment comes first

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A file, not memory: in memory, threads see locks that no server has, and processes see nothing.
_IS_SQLITE = DATABASES["default"]["ENGINE"].endswith("sqlite3")
_RUN_NAME = _run_folder().name.replace("-", "_")
DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3") if _IS_SQLITE else _RUN_NAME}

# Every client of Django's tests builds the middleware anew, and with it the list of all static
# files, which is most of a short test's time. Served processes keep what production does.
WHITENOISE_AUTOREFRESH = "ASYNCCODER_TEST_CHILD" not in os.environ
