"""The HTTP line to a provider: bounded waits, no redirects and, where asked, one fixed address."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass, field
from typing import Any

import httpx2

CONNECT_SECONDS = 15.0


@functools.cache
def certificates(*, trust_env: bool) -> ssl.SSLContext:
    """Return what servers' certificates are checked with; to read them all takes 50 ms of CPU."""
    return httpx2.create_ssl_context(trust_env=trust_env)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How a model is reached. ``timeout`` is seconds without a byte.

    ``address`` is the checked IP address of a user's URL: the name is not looked up again, and
    no proxy of the environment is used, so nothing else can be reached with it.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    timeout: float
    max_retries: int
    address: str = ""

    @property
    def seconds(self) -> httpx2.Timeout:
        return httpx2.Timeout(self.timeout, connect=min(self.timeout, CONNECT_SECONDS))

    def client_arguments(self) -> dict[str, Any]:
        """Return what both SDKs' own HTTP clients are made with."""
        # A redirect could lead to an address that the platform would not have called.
        common = {"timeout": self.seconds, "follow_redirects": False}
        if not self.address:
            return {**common, "verify": certificates(trust_env=True)}
        return {**common, "transport": PinnedTransport(self.address), "trust_env": False}


class PinnedTransport(httpx2.HTTPTransport):
    """Connects to one address and speaks to the name in the URL, TLS included."""

    def __init__(self, address: str) -> None:
        super().__init__(verify=certificates(trust_env=False), trust_env=False)
        self._address = address

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host=self._address)
        return super().handle_request(request)
