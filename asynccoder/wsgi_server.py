"""How gunicorn serves ``asynccoder.wsgi``: pages and REST on threads, behind the proxy.

``gunicorn --config python:asynccoder.wsgi_server asynccoder.wsgi:application``: it reads the names
below. The proxy takes TLS and slow clients; who the client is, is said by NUM_PROXIES alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from asynccoder import settings
from asynccoder.launcher import options

_given = options.read()

bind = [f"{_given.host}:{_given.port}"]
worker_class = "gthread"
workers = settings.WEB_PROCESSES
threads = settings.WEB_THREADS
# Of a process that hangs as a whole; a long request does not count.
timeout = 60
graceful_timeout = settings.STOP_SECONDS
# Longer than the proxy keeps a silent connection, so that it never writes into a closed one.
keepalive = 75
# No header of the proxy's means anything to gunicorn itself; Django reads them.
forwarded_allow_ips = ""
control_socket_disable = True
logconfig_dict = settings.LOGGING | {
    "loggers": settings.LOGGING["loggers"]
    | {"gunicorn.error": {"level": settings.LOG_LEVEL, "handlers": [], "propagate": True}}
}

_counts = ""
if workers > 1 and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    # Before prometheus_client is imported: each process answers /metrics for all.
    _counts = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="asynccoder-")


def on_exit(server: Any) -> None:
    """Remove the processes' counts; gunicorn calls this by its name."""
    if _counts:
        shutil.rmtree(_counts, ignore_errors=True)
