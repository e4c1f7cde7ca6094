"""A git server on loopback: smart HTTP by git's own http-backend, behind basic authentication."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from asynccoder.tests.loopback import answering, listening


@dataclass
class Seen:
    """One request that reached the server."""

    method: str
    path: str
    authorization: str


@dataclass
class GitServer:
    """Serves the bare repositories in ``root``. The fields may be changed while it runs."""

    root: Path
    password: str = ""
    redirect_to: str = ""
    status: int = 0
    """Answer everything with this status, when it is set."""
    hang: threading.Event | None = None
    """Answer only when this is set."""
    hang_at: str = ""
    """Hang only where the request's path holds this."""
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        return f"http://{self.address}/{name}"

    def accepts(self, authorization: str) -> bool:
        if not self.password:
            return True
        scheme, _, given = authorization.partition(" ")
        pair = base64.b64decode(given).decode() if scheme == "Basic" else ""
        return pair.partition(":")[2] == self.password


@contextmanager
def serving(root: Path, *, certificate: Path | None = None) -> Iterator[GitServer]:
    """Run a server for the block (with TLS where a certificate and its key are given).

    Every request thread has ended when the block is left.
    """
    served = GitServer(root)
    handler = answering(lambda request: answer(request, served))
    with listening(handler, certificate=certificate) as served.port:
        try:
            yield served
        finally:
            if served.hang:
                served.hang.set()


def make_certificate(folder: Path, host: str) -> Path:
    """Write a self-signed certificate of a host, with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    kinds = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / f"{host}.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM) + key.private_bytes(*kinds))
    return path


def answer(handler: BaseHTTPRequestHandler, served: GitServer) -> None:
    authorization = handler.headers.get("Authorization", "")
    served.seen.append(Seen(handler.command, handler.path, authorization))
    body = read_body(handler)
    if served.hang and served.hang_at in handler.path:
        served.hang.wait(timeout=60)
    if served.redirect_to:
        refuse(handler, 302, Location=served.redirect_to + handler.path)
    elif served.status:
        refuse(handler, served.status)
    elif not served.accepts(authorization):
        refuse(handler, 401, **{"WWW-Authenticate": 'Basic realm="git"'})
    else:
        serve(handler, served, body)


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    pieces = []
    while size := int(handler.rfile.readline(), 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    return b"".join(pieces)


def refuse(handler: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    try:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            handler.send_header(name, value)
        handler.end_headers()
    except ConnectionError:
        pass


def serve(handler: BaseHTTPRequestHandler, served: GitServer, body: bytes) -> None:
    parts = urlsplit(handler.path)
    env = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.receivepack", "GIT_CONFIG_VALUE_0": "true",
        "GIT_PROJECT_ROOT": str(served.root), "GIT_HTTP_EXPORT_ALL": "1",
        "REQUEST_METHOD": handler.command, "PATH_INFO": parts.path, "QUERY_STRING": parts.query,
        "CONTENT_TYPE": handler.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""), "REMOTE_USER": "tester",
    }  # fmt: skip
    done = subprocess.run(
        ["git", "http-backend"], env=env, input=body, capture_output=True, timeout=60, check=False
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    headers = [line.split(": ", 1) for line in head.decode().splitlines() if ": " in line]
    status = next((int(value[:3]) for name, value in headers if name == "Status"), 200)
    try:
        handler.send_response(status)
        for name, value in headers:
            if name not in ("Status", "Content-Length"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
    except ConnectionError:
        pass
