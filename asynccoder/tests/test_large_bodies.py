"""A body that no route takes is not taken in, whoever sends it and however."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from asynccoder import intake
from asynccoder.tests.processes import StartProcess, answers, free_port, wait_for

LOGIN = "/api/v1/auth/login"
MEGABYTE = 1024**2


@pytest.fixture
def server(start_process: StartProcess) -> tuple[str, int]:
    """Return daphne's address and process id."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    daphne = start_process(
        "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), "asynccoder.asgi:application",
        PORT=str(port), PUBLIC_URL=url,
    )  # fmt: skip
    wait_for(lambda: answers(f"{url}/health"), what="daphne answers")
    return url, daphne.pid


def sent(url: str, head: str, piece: bytes = b"", *, times: int = 0) -> tuple[bytes, int]:
    """Send a request as long as it is taken; return the first line and how often a piece went."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as line:
        line.sendall(f"POST {LOGIN} HTTP/1.1\r\nHost: {address.netloc}\r\n{head}\r\n\r\n".encode())
        for went in range(times):
            try:
                line.sendall(piece)
            except ConnectionError:
                return b"cut", went
        return line.recv(200).partition(b"\r\n")[0], times


def test_a_length_that_no_route_takes_is_refused_before_the_body(server: tuple[str, int]) -> None:
    length = intake.most_bytes() + 1
    assert sent(server[0], f"Content-Length: {length}")[0] == b"HTTP/1.1 413 Content Too Large"
    assert answers(f"{server[0]}/health")


def test_chunks_without_end_are_cut(server: tuple[str, int]) -> None:
    chunk = b"%x\r\n%b\r\n" % (MEGABYTE, b" " * MEGABYTE)
    first, went = sent(server[0], "Transfer-Encoding: chunked", chunk, times=500)
    assert first in (b"cut", b"HTTP/1.1 413 Content Too Large")
    assert went < 500
    assert answers(f"{server[0]}/health")


def test_what_is_a_little_too_large_is_refused_in_words(server: tuple[str, int]) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{server[0]}{LOGIN}", b" " * 11 * MEGABYTE, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_form_of_many_fields_costs_no_more_than_its_bytes(server: tuple[str, int]) -> None:
    url, pid = server
    body = "&".join(f"{number:x}" for number in range(3_000_000)).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    before = peak(pid)
    answer = requests.post(f"{url}{LOGIN}", body, headers=headers, timeout=60)
    assert answer.status_code == 413
    assert peak(pid) - before < 100 * MEGABYTE


def peak(pid: int) -> int:
    """Return the most memory that a process had so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024
