"""Attempts to reach anything that is not in the sandbox."""

from __future__ import annotations

import socket
from pathlib import Path

from campaigns.escapes.inside.looking import Attempt, Target


def datagram(target: Target) -> str:
    """Ask a name server on the host for a name that carries a secret."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.settimeout(0.5)
        end.sendto(b"\x13\x37\x01\x00secret.example", ("127.0.0.1", target["udp"]))
        return "answered" if end.recv(100) else ""


def loopback_v6(target: Target) -> str:
    with socket.create_connection(("::1", target["port6"]), timeout=1):
        return "reached ::1"


def raw_socket(_target: Target) -> str:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "made"


def other_families(_target: Target) -> str:
    made = []
    for family in {*range(3, 46)} - {socket.AF_INET6}:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            made.append(str(family))
    return " ".join(dict.fromkeys(made))


def names_of_sockets(target: Target) -> str:
    names = Path("/proc/net/unix").read_text()
    return "listed" if target["abstract"] in names else ""


def platforms_redis(target: Target) -> str:
    if target["redis"].startswith("/"):
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(1)
        end.connect(target["redis"])
    else:
        host, _, port = target["redis"].partition(":")
        end = socket.create_connection((host, int(port)), timeout=1)
    end.close()
    return "connected"


def model_server(target: Target) -> str:
    with socket.create_connection(("127.0.0.1", target["model"]), timeout=1):
        return "connected"


def platforms_proxy(_target: Target) -> str:
    """There is one only where a repository lists hosts."""
    if Path("/run/proxy.sock").exists():
        return "/run/proxy.sock"
    with socket.create_connection(("127.0.0.1", 3128), timeout=1):
        return "port 3128"


ATTEMPTS: list[Attempt] = [
    datagram, loopback_v6, raw_socket, other_families, names_of_sockets, platforms_redis,
    model_server, platforms_proxy,
]  # fmt: skip
