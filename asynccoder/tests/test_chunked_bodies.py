"""A body that comes in chunks, as .NET and Node send it, is read like one with a length."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import requests
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse

from accounts.models import User
from asynccoder.middleware import ApiRequest

LOGIN = "/api/v1/auth/login"
RIGHT = [b'{"email": "alice",', b' "password": "correct horse battery"}']


@pytest.mark.django_db(transaction=True)
def test_a_body_in_chunks_is_read(server_process: str, alice: User) -> None:
    def post(*pieces: bytes) -> requests.Response:
        # Of what it cannot measure, requests sends chunks.
        body: Iterator[bytes] = iter(pieces)
        headers = {"Content-Type": "application/json"}
        return requests.post(f"{server_process}{LOGIN}", data=body, headers=headers, timeout=60)

    assert post(*RIGHT).json()["user"]["username"] == "alice"
    assert post(b'{"email": "alice"').json()["message"] == "The body is not valid JSON."
    assert post(b" " * 6_000_000, b" " * 6_000_000).status_code == 413


def test_where_no_chunks_are_read_the_length_is_asked_for() -> None:
    def unreached(request: object) -> HttpResponse:
        raise AssertionError("a view would take the body for empty")

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": LOGIN,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.input": io.BytesIO(b"".join(RIGHT)),
    }
    assert ApiRequest(unreached)(WSGIRequest(environ)).status_code == 411
