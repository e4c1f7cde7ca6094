"""HTTP alone works under a WSGI server."""

from __future__ import annotations

import io
import sys
from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults

import pytest

from asynccoder.wsgi import application


@pytest.mark.django_db
def test_a_probe_is_answered() -> None:
    environ = {"PATH_INFO": "/api/health/live", "HTTP_HOST": "localhost"}
    setup_testing_defaults(environ)
    output = io.BytesIO()
    SimpleHandler(io.BytesIO(), output, sys.stderr, environ).run(application)
    assert b" 200 OK" in output.getvalue().splitlines()[0]
    assert b"alive" in output.getvalue()
