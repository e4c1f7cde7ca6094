"""A Clerk on loopback: it publishes its keys, tells profiles to who has its secret, and signs tokens.

``keys`` maps key ids to private keys; ``faults`` are played first, one a request: a status, "hang",
or bytes that are sent instead of the answer.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SECRET = "sk_test_0123456789abcdef"
ORIGIN = "http://localhost:8000"


@lru_cache
def private_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the key of this name; to make one takes long."""
    return rsa.generate_private_key(65537, bits)


def public_pem(name: str) -> bytes:
    return (
        private_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def number(value: int) -> str:
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def published(key_id: str, key: rsa.RSAPrivateKey, **changes: Any) -> dict[str, Any]:
    """Return the public half as an entry of a key set."""
    numbers = key.public_key().public_numbers()
    entry = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id}
    return entry | {"n": number(numbers.n), "e": number(numbers.e)} | changes


class ClerkServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.listed = [published("one", private_key("one"))]
        self.people: dict[str, dict[str, Any]] = {}
        self.faults: list[int | str | bytes] = []
        self.requests: list[str] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good session token; None takes a claim away."""
        now = int(time.time())
        good = {"iss": self.url, "sub": "user_2abc", "sid": "sess_1", "azp": ORIGIN}
        times = {"iat": now, "nbf": now - 10, "exp": now + 60}
        return {
            name: value for name, value in (good | times | changes).items() if value is not None
        }

    def token(
        self, *, key: str = "one", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """Return a session token signed by the key of that name."""
        headers = {"kid": key, "typ": "JWT"} | (header or {})
        given = {name: value for name, value in headers.items() if value is not None}
        return jwt.encode(self.claims(**claims), private_key(key), "RS256", headers=given)


class _Handler(BaseHTTPRequestHandler):
    server: ClerkServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault == "hang":
            self.server.stopping.wait()
        elif isinstance(fault, bytes):
            self._send(200, fault)
        elif isinstance(fault, int):
            self._send(fault, b"{}")
        else:
            self._send(*self._answer())

    def _answer(self) -> tuple[int, bytes]:
        if self.path == "/.well-known/jwks.json":
            return 200, json.dumps({"keys": self.server.listed}).encode()
        if self.headers.get("Authorization") != f"Bearer {SECRET}":
            return 401, b"{}"
        person = self.server.people.get(unquote(self.path.removeprefix("/v1/users/")))
        return (200, json.dumps(person).encode()) if person else (404, b"{}")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", f"{self.server.url}/.well-known/jwks.json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""


@contextmanager
def running_clerk() -> Iterator[ClerkServer]:
    server = ClerkServer()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
