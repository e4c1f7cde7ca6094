"""HTTP alone works under a WSGI server."""

from __future__ import annotations

import io
import sys
from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults

from asynccoder.wsgi import application


def test_a_probe_is_answered() -> None:
    environ = {"PATH_INFO": "/api/health/live", "HTTP_HOST": "localhost"}
    setup_testing_defaults(environ)
    output = io.BytesIO()
    SimpleHandler(io.BytesIO(), output, sys.stderr, environ).run(application)
    assert output.getvalue().startswith(b"Status: 200 OK\r\n")
    assert b"alive" in output.getvalue()
