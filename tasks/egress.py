"""The hosts that one run may reach: its repository's list, the platform's policy, and the log.

A run without a list has no proxy at all. Addresses are judged as every user's URL is
(``asynccoder.lib.outbound``): public ones, or what the operator names in OUTBOUND_ALLOWED.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings

from asynccoder.lib import outbound
from asynccoder.lib.hosts import parse_list
from tasks.errors import NetworkListBad
from tasks.sandbox.proxy import Proxy, ProxyLimits, Refused, Rules, Verdict

MOST_TOLD = 100
"""Different verdicts of a run that its log shows; a hostile command could ask for millions."""


def checked_address(host: str, port: int) -> str:
    """Resolve once and return the address to connect to. Raises Refused."""
    try:
        return outbound.check(f"https://{host}:{port}").address
    except outbound.UrlRefused as error:
        raise Refused(error.message) from error


class Egress:
    """One run's way out. Open it before the first sandbox and close it after the last."""

    def __init__(self, hosts: Sequence[str]) -> None:
        """Raises NetworkListBad."""
        try:
            self._entries = parse_list(hosts)
        except ValueError as error:
            raise NetworkListBad(
                f"The repository's network list cannot be used: {error}"
            ) from error
        self._heard: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
        self._told: set[Verdict] = set()
        self._proxy: Proxy | None = None

    def open(self, folder: Path) -> Path | None:
        """Start the proxy and return its socket in ``folder``, or None where no host is listed."""
        if not self._entries:
            return None
        rules = Rules(self._entries, checked_address)
        proxy = Proxy(folder, rules, self._heard.put, limits=limits_from_settings())
        self._proxy = proxy.__enter__()
        return proxy.path

    def close(self) -> None:
        proxy, self._proxy = self._proxy, None
        if proxy is not None:
            proxy.__exit__(None, None, None)

    def news(self) -> list[Verdict]:
        """Return what was let through or refused since the last call, each verdict once a run."""
        fresh: dict[Verdict, None] = {}
        while not self._heard.empty():
            fresh[self._heard.get()] = None
        new = [verdict for verdict in fresh if verdict not in self._told]
        new = new[: MOST_TOLD - len(self._told)]
        self._told.update(new)
        return new


def limits_from_settings() -> ProxyLimits:
    return ProxyLimits(
        connections=settings.SANDBOX_NETWORK_CONNECTIONS,
        total=settings.SANDBOX_NETWORK_BYTES,
        connection_seconds=settings.SANDBOX_NETWORK_SECONDS,
    )
