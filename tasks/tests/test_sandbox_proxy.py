"""The proxy lets listed hosts through, at checked addresses; a trap on loopback hears nothing."""

from __future__ import annotations

import random
import re
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asynccoder.lib.hosts import Entry, parse_list
from tasks.sandbox.proxy import ProxyLimits, Refused, Rules, Verdict
from tasks.tests.network import (
    PUBLIC,
    Recorder,
    Server,
    answers,
    ask,
    connect_line,
    connected,
    policy,
    serving,
    unfiltered,
)

LISTED = ("wheels.example", ".example.com", "git.example.net:9418")
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        yield served


def refusal(request: bytes, *entries: str) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        Rules(parse_list(entries or LISTED), unfiltered).decide(request)
    return caught.value.status, caught.value.host


def test_a_listed_host_is_let_through_and_told(tmp_path: Path, server: Server) -> None:
    record = Recorder()
    decide = policy(answers("127.0.0.1"), allowed=[f"good.example:{server.port}"])
    with serving(tmp_path, [f"good.example:{server.port}"], decide, record=record) as proxy:
        answer = ask(proxy, connect_line("GOOD.example", server.port), b"x" * 300_000)
    assert answer == OPENED + b"X" * 300_000
    assert record.verdicts == [Verdict("good.example", is_allowed=True)]


def test_what_follows_the_request_at_once_is_not_lost(tmp_path: Path, server: Server) -> None:
    with serving(tmp_path, [f"good.example:{server.port}"], unfiltered) as proxy:
        answer = ask(proxy, connect_line("good.example", server.port) + b"early ", b"late")
    assert answer == OPENED + b"EARLY LATE"


def test_another_host_is_refused_and_never_resolved(tmp_path: Path, server: Server) -> None:
    record, asked = Recorder(), []

    def decide(host: str, port: int) -> str:
        asked.append(host)
        return "127.0.0.1"

    with serving(tmp_path, [f"good.example:{server.port}"], decide, record=record) as proxy:
        answer = ask(proxy, connect_line("bad.example", server.port))
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"not in the repository's network list" in answer
    assert (asked, server.visits) == ([], 0)
    assert record.told == [("bad.example", False)]


def test_a_name_in_a_private_network_is_refused(tmp_path: Path, server: Server) -> None:
    entry = f"good.example:{server.port}"
    with serving(tmp_path, [entry], policy(answers("127.0.0.1"))) as proxy:
        answer = ask(proxy, connect_line("good.example", server.port))
    assert b"private network" in answer
    assert server.visits == 0
    with serving(tmp_path, [entry], unfiltered) as proxy:
        ask(proxy, connect_line("good.example", server.port))
    assert server.visits == 1, "without the policy the trap is reached"


def test_a_name_that_changes_its_address_never_leads_to_loopback(
    tmp_path: Path, server: Server
) -> None:
    entry = f"rebind.example:{server.port}"
    quick = ProxyLimits(connect_seconds=0.05)
    for _ in range(20):
        decide = policy(answers(PUBLIC, "127.0.0.1"))
        with serving(tmp_path, [entry], decide, limits=quick) as proxy:
            for _ in range(3):
                assert not ask(proxy, connect_line("rebind.example", server.port)).startswith(
                    OPENED
                )
    assert server.visits == 0


def test_resolving_again_after_the_check_would_be_a_way_in(tmp_path: Path, server: Server) -> None:
    resolve = answers(PUBLIC, "127.0.0.1")
    checked = policy(resolve)

    def twice(host: str, port: int) -> str:
        checked(host, port)
        return resolve(host, port)[0]

    with serving(tmp_path, [f"rebind.example:{server.port}"], twice) as proxy:
        ask(proxy, connect_line("rebind.example", server.port))
    assert server.visits == 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "10.0.0.7", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "localhost",
        "1.2.3.4.5", "a.b.0x7f", "intranet",
    ],
)  # fmt: skip
def test_addresses_and_single_words_are_refused(host: str) -> None:
    assert refusal(f"CONNECT {host}:443 HTTP/1.1".encode()) == (403, "")


@pytest.mark.parametrize(
    "request_head",
    [
        b"", b"CONNECT", b"CONNECT wheels.example HTTP/1.1", b"CONNECT wheels.example:443",
        b"CONNECT  wheels.example:443 HTTP/1.1", b"connect wheels.example:443 HTTP/1.1",
        b"CONNECT wheels.example:443 HTTP/2.0", b"CONNECT wheels.example:443 HTTP/1.1\nX: y",
        b"CONNECT wheels.example\0.evil.org:443 HTTP/1.1", b"CONNECT wheels.example\r:443 HTTP/1.1",
        b"CONNECT wheels.example:443 HTTP/1.1\r\nX: a\0b", b"CONNECT wheels.example:443 HTTP/1.1\r\nX: a\nb",
        b"CONNECT wheels.example:443 HTTP/1.1\r\n folded", b"CONNECT wh\xc3\xbfels.example:443 HTTP/1.1",
        b"CONNECT wheels.example:443 HTTP/1.1\r\nX: \xff", b"\x16\x03\x01\x02\x00",
        b"CONNECT wheels.example:000443 HTTP/1.1", b"CONNECT wheels.example:4 43 HTTP/1.1",
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused(request_head: bytes) -> None:
    assert refusal(request_head) == (400, "")


@pytest.mark.parametrize(
    "target",
    [
        "u:p@wheels.example:443",
        "wheels.example@evil.org:443",
        "[::1]:443",
        "wheels.example/x:443",
        "wheels.example:443/",
    ],
)
def test_userinfo_paths_and_brackets_are_refused(target: str) -> None:
    assert refusal(f"CONNECT {target} HTTP/1.1".encode()) == (400, "")


@pytest.mark.parametrize(
    "host",
    [
        "wheels.example.", ".wheels.example", "xwheels.example", "wheels.example.evil.org", "example.com", "xexample.com",
        "-a.example.com", "a..example.com", "a.example.com.", "x" * 64 + ".example.com",
        "git.example.net", "wheels.example:80", "wheels.example:444", "git.example.net:443",
    ],
)  # fmt: skip
def test_names_near_a_listed_one_are_refused(host: str) -> None:
    target = host if ":" in host else f"{host}:443"
    assert refusal(f"CONNECT {target} HTTP/1.1".encode())[0] == 403


def test_plain_http_is_refused_in_words(tmp_path: Path) -> None:
    with serving(tmp_path, LISTED, unfiltered) as proxy:
        answer = ask(
            proxy, b"GET http://wheels.example/simple HTTP/1.1\r\nHost: wheels.example\r\n\r\n"
        )
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"no plain http" in answer


def model(request: bytes) -> tuple[str, int] | None:
    """Decide in another way than the proxy: the target that a request may reach, if any."""
    lines = request.split(b"\r\n")
    words = lines[0].split(b" ")
    plain = all(0x20 <= byte < 0x7F or byte == 9 for line in lines for byte in line)
    if not plain or len(words) != 3 or words[0] != b"CONNECT":
        return None
    if words[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        return None
    if any(not re.match(rb"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?={}]+:", line) for line in lines[1:]):
        return None
    host, colon, port = words[1].decode().lower().rpartition(":")
    if not colon or not (port.isdigit() and len(port) <= 5):
        return None
    below = host.removesuffix(".example.com")
    labels = below.split(".")
    is_below = host != below and all(
        0 < len(label) < 64 and re.sub(r"[a-z0-9]|(?<=.)-(?=.)", "", label) == ""
        for label in labels
    )
    is_listed = (
        (host, int(port)) in {("wheels.example", 443), ("git.example.net", 9418)}
        or (is_below and int(port) == 443)
    ) and len(host) <= 253
    return (host, int(port)) if is_listed else None


hosts = st.one_of(
    st.sampled_from(
        ["wheels.example", "Wheels.example", "a.example.com", "git.example.net", "example.com"]
    ),
    st.builds(
        "{}{}".format,
        st.text(alphabet="aZ0.-@:[]\0\r\n%_", max_size=8),
        st.sampled_from([".example.com", "example.com", "wheels.example", "127.0.0.1", "::1"]),
    ),
    st.text(max_size=20),
)
lines = st.builds(
    "{} {}:{} {}{}".format,
    st.sampled_from(["CONNECT", "CONNECT", "CONNECT", "GET", "CONNECT "]),
    hosts,
    st.sampled_from(["443", "443", "443", "80", "9418", "0", "65536", "0443", "४४३", "443@x"]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/1.1 x"]),
    st.sampled_from(["", "", "\r\nHost: x", "\r\nHost: evil.org\r\nX:", "\r\n x", "\r\nA\0: b"]),
).map(str.encode)
requests = st.one_of(lines, st.binary(max_size=80))


def compare(request_head: bytes) -> bool:
    """Ask both about one request; return whether it was let through."""
    went: list[tuple[str, int]] = []

    def decide(host: str, port: int) -> str:
        went.append((host, port))
        return PUBLIC

    wanted = model(request_head)
    try:
        host, address, port = Rules(parse_list(LISTED), decide).decide(request_head)
    except Refused:
        assert wanted is None, request_head
        assert went == []
        return False
    assert (host, port) == wanted, request_head
    assert went == [(host, port)]
    assert address == PUBLIC
    return True


@settings(max_examples=500, deadline=None)
@given(requests)
@example(b"CONNECT a.example.com:443 HTTP/1.1\r\nHost: b")
@example(b"CONNECT wheels.example:443 HTTP/1.1")
def test_the_decision_is_where_the_connection_goes(request_head: bytes) -> None:
    compare(request_head)


def test_thirty_thousand_spoilt_requests_are_decided_alike() -> None:
    chance = random.Random(3128)
    good = [
        b"CONNECT wheels.example:443 HTTP/1.1\r\nHost: wheels.example:443",
        b"CONNECT git.example.net:9418 HTTP/1.0",
        b"CONNECT a-b.c.example.com:443 HTTP/1.1",
    ]
    odd = b"\0\r\n\t @:/.-_%[]0aZ\x7f\x80\xff"
    passed = 0
    for _ in range(30_000):
        spoilt = bytearray(chance.choice(good))
        for _ in range(chance.randint(0, 2)):
            place, width = chance.randrange(len(spoilt)), chance.randint(0, 1)
            spoilt[place : place + width] = bytes(chance.choices(odd, k=chance.randint(0, 2)))
        passed += compare(bytes(spoilt))
    assert 5_000 < passed < 25_000


def test_fuzzed_requests_reach_no_trap(tmp_path: Path, server: Server) -> None:
    """The same over the wire: whatever is asked, only what is allowed arrives."""
    decide = policy(answers("127.0.0.1"), allowed=[f"good.example:{server.port}"])
    with serving(tmp_path, [f"good.example:{server.port}"], decide) as proxy:
        opened = 0

        @settings(max_examples=150, deadline=None)
        @given(requests)
        def storm(request_head: bytes) -> None:
            nonlocal opened
            opened += ask(proxy, request_head + b"\r\n\r\n").startswith(OPENED)

        storm()
        assert (opened, server.visits) == (0, 0)
        assert ask(proxy, connect_line("good.example", server.port), b"x").startswith(OPENED)
    assert server.visits == 1


@pytest.mark.parametrize(("size", "is_served"), [(1024, True), (1025, False)])
def test_a_request_has_a_largest_size(
    tmp_path: Path, server: Server, size: int, is_served: bool
) -> None:
    head = connect_line("good.example", server.port)
    padding = size - len(head) - len(b"X: \r\n")
    request = head[:-2] + b"X: " + b"x" * padding + b"\r\n\r\n"
    assert len(request) == size
    limits = ProxyLimits(head=1024)
    with serving(tmp_path, [f"good.example:{server.port}"], unfiltered, limits=limits) as proxy:
        assert ask(proxy, request).startswith(OPENED) == is_served


def test_a_request_that_does_not_come_ends(tmp_path: Path) -> None:
    limits = ProxyLimits(head_seconds=0.1)
    with serving(tmp_path, LISTED, unfiltered, limits=limits) as proxy, connected(proxy) as client:
        client.sendall(b"CONNECT wh")
        assert client.recv(100) == b""


@pytest.mark.parametrize(("total", "arrives"), [(2000, True), (1999, False)])
def test_the_bytes_of_a_run_are_bounded(
    tmp_path: Path, server: Server, total: int, arrives: bool
) -> None:
    limits = ProxyLimits(total=total)
    with serving(tmp_path, [f"good.example:{server.port}"], unfiltered, limits=limits) as proxy:
        line = connect_line("good.example", server.port)
        # Five hundred out and five hundred back, twice.
        assert ask(proxy, line, b"x" * 500) == OPENED + b"X" * 500
        assert (ask(proxy, line, b"x" * 500) == OPENED + b"X" * 500) == arrives


def test_the_connections_of_a_run_are_bounded(tmp_path: Path, server: Server) -> None:
    entries, limits = [f"good.example:{server.port}"], ProxyLimits(connections=2)
    line = connect_line("good.example", server.port)
    with serving(tmp_path, entries, unfiltered, limits=limits) as proxy:
        with connected(proxy) as first, connected(proxy) as second:
            for client in (first, second):
                client.sendall(line)
                assert client.recv(100) == OPENED
            third = connected(proxy)
            third.sendall(line)
            assert select.select([third], [], [], 0.2)[0] == []
        with third:
            assert third.recv(100) == OPENED


@pytest.mark.parametrize(
    "limits", [ProxyLimits(idle_seconds=0.5), ProxyLimits(connection_seconds=1.5)]
)
def test_the_time_of_a_connection_is_bounded(
    tmp_path: Path, server: Server, limits: ProxyLimits
) -> None:
    entries = [f"good.example:{server.port}"]
    with (
        serving(tmp_path, entries, unfiltered, limits=limits) as proxy,
        connected(proxy) as client,
    ):
        client.sendall(connect_line("good.example", server.port))
        assert client.recv(100) == OPENED
        assert client.recv(100) == b""


def test_a_host_that_does_not_answer_is_said_to_be_out_of_reach(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    record = Recorder()
    with serving(tmp_path, [f"good.example:{port}"], unfiltered, record=record) as proxy:
        assert ask(proxy, connect_line("good.example", port)).startswith(b"HTTP/1.1 502 ")
    assert record.told == [("good.example", False)]


def test_nothing_is_left_when_the_proxy_ends(tmp_path: Path, server: Server) -> None:
    before = set(threading.enumerate())
    with serving(tmp_path, [f"good.example:{server.port}"], unfiltered) as proxy:
        client = connected(proxy)
        client.sendall(connect_line("good.example", server.port))
        assert client.recv(100) == OPENED
        idle = connected(proxy)
    with client, idle:
        assert client.recv(100) == b""
        assert not idle.recv(1000).startswith(OPENED)
    assert not proxy.path.exists()
    left = [thread for thread in set(threading.enumerate()) - before if "echo" not in thread.name]
    assert left == []


def test_a_folder_of_any_depth_will_do(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    with serving(deep, LISTED, unfiltered) as proxy:
        assert proxy.path.is_socket()
        assert proxy.path.stat().st_mode & 0o077 == 0


def test_entries_are_read_strictly() -> None:
    assert Entry.parse(" Wheels.example ") == Entry("wheels.example")
    assert Entry.parse(".example.com:8443") == Entry("example.com", 8443, is_suffix=True)
    for text in ("wheels.example", ".example.com", "a.example.com:8443"):
        assert str(Entry.parse(text)) == text
    assert parse_list(["a.example", "A.example", "a.example:443"]) == (Entry("a.example"),)
    for text in (
        "", ".", "localhost", ".com", "1.2.3.4", "[::1]", "::1", "127.1", "0x7f.1", "*.example.com",
        "https://a.example", "a.example/x", "u@a.example", "a.example:0", "a.example:65536",
        "a.example:٤٤٣", "a.example:", "a..b", "bücher.example", "a.example\nb.example", "a b.c",
        "x" * 250 + ".org",
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"port|host"):
            Entry.parse(text)
    with pytest.raises(ValueError, match=r"'1\.2\.3\.4'"):
        parse_list(["a.example", "1.2.3.4"])


def test_every_suffix_needs_a_dot_before_it() -> None:
    entry = Entry.parse(".example.com")
    assert entry.covers("a.b.example.com", 443)
    assert not entry.covers("aexample.com", 443)
    assert not replace(entry, port=444).covers("a.example.com", 443)
