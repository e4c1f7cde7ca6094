"""What a client sends reaches Django as it is: daphne reads no form and believes no address."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
import requests

MULTIPART = "multipart/form-data; boundary=x"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: \xff\r\n\r\n"
)


@pytest.mark.django_db(transaction=True)
def test_daphne_leaves_bodies_and_addresses_to_django(server_process: str) -> None:
    login = f"{server_process}/api/v1/auth/login"
    headers = {"Content-Type": MULTIPART}
    answer = requests.post(login, data=b"no form at all", headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")

    moved = {"Daphne-Root-Path": "/elsewhere"}
    elsewhere = f"{server_process}/elsewhere/health"
    assert requests.get(elsewhere, headers=moved, timeout=60).status_code == 404
    broken = {"Daphne-Root-Path": b"/\xff"}
    assert requests.get(f"{server_process}/health", headers=broken, timeout=60).status_code == 200

    place = urlsplit(server_process)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=60) as line:
        line.sendall(UPGRADE)
        assert line.recv(12) == b"HTTP/1.1 101"
