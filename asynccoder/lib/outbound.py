"""Where a user's URL may lead: https to a public address, or what the operator allows by name.

A name is resolved once; the caller connects to the address returned here and to no other, so a
second answer of the name server changes nothing. A redirect is a new URL and is not followed.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from asynccoder.lib.errors import AppError
from asynccoder.lib.hosts import HOST_NAME, NUMERIC_LABEL

URL_CHARACTERS = 2000
PORTS = {"https": 443, "http": 80}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

# Global by the registry, and yet a way into somewhere else (reliability.md 2.4).
DETOURS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # carriers' shared addresses
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",  # benchmarks
        "2001::/23",  # Teredo, ORCHID and other assignments
        "2001:db8::/32",  # documents
        "2002::/16",  # 6to4
        "3fff::/20",  # documents
    )
)
ALLOCATED = ipaddress.ip_network("2000::/3")
"""The part of IPv6 that is given out; mapped, NAT64, site-local and local are outside it."""


class UrlRefused(AppError):
    """The address may not be used."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A checked address: connect to ``address`` and ``port``, speaking to ``host``."""

    host: str
    port: int
    address: str
    is_plain_http: bool = False


def check(url: str) -> Destination:
    """Check a user's URL against the operator's OUTBOUND_ALLOWED. Raises UrlRefused."""
    return check_url(url, allowed=settings.OUTBOUND_ALLOWED)


def check_url(url: str, *, allowed: Sequence[str], resolve: Resolve | None = None) -> Destination:
    """Return where a URL leads, or refuse it.

    1. The text must be plain: no user, no control or non-ASCII characters, no odd number forms.
    2. ``host:port`` in ``allowed`` may be private, and may speak plain http.
    3. Everything else is https, and every address that the name has must be public.
    """
    parts = _split(url)
    host, port = _host(parts), _port(parts)
    is_allowed = f"{host}:{port}" in {entry.strip().lower() for entry in allowed}
    if parts.scheme == "http" and not is_allowed:
        raise UrlRefused("Only https addresses may be used.")
    addresses = _addresses(host, port, resolve or resolved)
    if not is_allowed and not all(is_public(address) for address in addresses):
        raise UrlRefused("This address leads into a private network.")
    return Destination(host, port, addresses[0], is_plain_http=parts.scheme == "http")


def _split(url: str) -> SplitResult:
    if len(url) > URL_CHARACTERS:
        raise UrlRefused("The address is too long.")
    if not url.isascii() or any(not "!" <= character <= "~" for character in url):
        raise UrlRefused("The address holds a character that is not plain ASCII.")
    if "\\" in url or not re.match(r"https?://[^/]", url, re.IGNORECASE):
        raise UrlRefused("Give an address that begins with https://.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UrlRefused("This is no address.") from None
    if "@" in parts.netloc:
        raise UrlRefused("Give the user name and password apart, not in the address.")
    return parts


def _host(parts: SplitResult) -> str:
    """Return the host in lower case: a name, a dotted quad or an IPv6 address in full form."""
    try:
        host = (parts.hostname or "").lower()
    except ValueError:
        raise UrlRefused("This is no address.") from None
    if "[" in parts.netloc:
        return _ipv6(host)
    if not HOST_NAME.fullmatch(host) or len(host) > 253:
        raise UrlRefused("The name of the host is not valid.")
    if NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]) and not _is_dotted_quad(host):
        # 127.1, 2130706433, 0x7f.1 and 0177.0.0.1 are numbers to a resolver, not names.
        raise UrlRefused("Write an IP address as four plain numbers.")
    return host


def _ipv6(host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host)) if "%" not in host else _refuse_zone()
    except ValueError:
        raise UrlRefused("This is no IPv6 address.") from None


def _refuse_zone() -> str:
    raise UrlRefused("An IPv6 address with a zone leads into a private network.")


def _is_dotted_quad(host: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        raise UrlRefused("The port is not valid.") from None
    if port == 0:
        raise UrlRefused("The port is not valid.")
    return port or PORTS[parts.scheme]


def _addresses(host: str, port: int, resolve: Resolve) -> Sequence[str]:
    try:
        addresses = resolve(host, port)
    except (OSError, UnicodeError):
        addresses = ()
    if not addresses:
        raise UrlRefused(f"The host {host} has no address.")
    return addresses


def resolved(host: str, port: int) -> list[str]:
    """Ask the resolver once; the addresses in its order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Tell whether an address is somewhere on the open internet, by no detour."""
    try:
        ip: Address = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and ip not in ALLOCATED:
        return False
    if any(ip.version == network.version and ip in network for network in DETOURS):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)
