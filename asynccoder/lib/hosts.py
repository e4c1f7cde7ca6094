"""Names of hosts, and lists of those that may be reached. This module knows no Django.

An entry of a list is ``host``, ``.suffix`` (every name below it, not the name itself), or either
with ``:port``; without a port it means 443. Comparison is by bytes of plain ASCII, in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST_NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*")
NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
ENTRY = re.compile(r"(?P<dot>\.?)(?P<name>[^:]*)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
LONGEST = 253
HTTPS = 443


def is_domain(name: str) -> bool:
    """Tell whether a lower-case name has two labels or more and is no number to any resolver."""
    return (
        len(name) <= LONGEST
        and "." in name
        and HOST_NAME.fullmatch(name) is not None
        # 127.1, 0x7f.1 and 10.0.0.1 end in a number; a top-level domain never is one.
        and NUMERIC_LABEL.fullmatch(name.rpartition(".")[2]) is None
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an allow-list."""

    name: str
    port: int = HTTPS
    is_suffix: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one entry. Raises ValueError, whose message is for the one who wrote it."""
        found = ENTRY.fullmatch(text.strip().lower())
        name = found["name"] if found else ""
        if found is None or not is_domain(name):
            raise ValueError(
                "Write a host such as packages.example.org, .example.com for all below it, or host:port; "
                "no IP address and no single word."
            )
        port = int(found["port"] or HTTPS)
        if not 1 <= port <= 65535:
            raise ValueError("A port is between 1 and 65535.")
        return cls(name, port, is_suffix=bool(found["dot"]))

    def __str__(self) -> str:
        port = "" if self.port == HTTPS else f":{self.port}"
        return f"{'.' * self.is_suffix}{self.name}{port}"

    def covers(self, host: str, port: int) -> bool:
        if port != self.port:
            return False
        return host.endswith(f".{self.name}") if self.is_suffix else host == self.name


def parse_list(lines: Iterable[str]) -> tuple[Entry, ...]:
    """Read a list, each entry once. Raises ValueError that names the first bad one."""
    entries: dict[Entry, None] = {}
    for line in lines:
        try:
            entries[Entry.parse(line)] = None
        except ValueError as error:
            raise ValueError(f"{line[:100]!r}: {error}") from None
    return tuple(entries)
