"""A sandbox with a proxy reaches listed hosts through it, and nothing in any other way."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from repositories.tests.git_server import make_certificate
from tasks.sandbox import selftest
from tasks.sandbox.base import Command, Limits
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.orphans import Owner, owned_by
from tasks.sandbox.proxy import Policy, Proxy
from tasks.sandbox.toolchain import Toolchain
from tasks.tests.network import Recorder, Server, answers, connect_line, policy, serving, unfiltered
from tasks.tests.sandboxes import Place, eventually, make_place, python, shell

HOST = "good.example"
ASK = """
import socket, sys
with socket.create_connection(("127.0.0.1", 3128), timeout=60) as way:
    way.sendall(sys.argv[1].encode())
    answer = way.recv(4096)
    if b" 200 " in answer:
        way.sendall(b"hello")
        way.shutdown(socket.SHUT_WR)
    while chunk := way.recv(4096):
        answer += chunk
print(answer.decode())
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        yield served


def with_proxy(place: Place, proxy: Proxy) -> Place:
    return replace(place, workspace=replace(place.workspace, proxy=proxy.path))


@contextmanager
def proxied(
    folder: Path, port: int, decide: Policy, *, record: Recorder | None = None
) -> Iterator[Bubblewrap]:
    place = make_place(folder / "place")
    with (
        serving(folder, [f"{HOST}:{port}"], decide, record=record) as proxy,
        with_proxy(place, proxy).sandbox() as sandbox,
    ):
        yield sandbox


def request(host: str, port: int) -> Command:
    return python(ASK, connect_line(host, port).decode())


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"the page of {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def https(folder: Path) -> Iterator[tuple[int, Path]]:
    """Serve a page over TLS on loopback; yield the port and the certificate."""
    certificate = make_certificate(folder, HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as served:
        served.socket = context.wrap_socket(served.socket, server_side=True)
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield served.server_port, certificate
        finally:
            served.shutdown()
            thread.join()


def test_an_ordinary_client_reaches_a_listed_host_over_tls(tmp_path: Path) -> None:
    with https(tmp_path) as (port, certificate):
        decide = policy(answers("127.0.0.1"), allowed=[f"{HOST}:{port}"])
        with proxied(tmp_path, port, decide) as sandbox:
            sandbox.write("ca.pem", certificate.read_bytes())
            source = f"""
import ssl, urllib.request
trust = ssl.create_default_context(cafile="ca.pem")
print(urllib.request.urlopen("https://{HOST}:{port}/", context=trust, timeout=60).read().decode())
"""
            for _ in range(2):
                result = sandbox.run(python(source))
                assert result.text == f"the page of {HOST}:{port}\n", result.text


def test_a_listed_host_passes_and_another_does_not(tmp_path: Path, server: Server) -> None:
    record = Recorder()
    decide = policy(answers("127.0.0.1"), allowed=[f"{HOST}:{server.port}"])
    with proxied(tmp_path, server.port, decide, record=record) as sandbox:
        assert sandbox.run(request(HOST, server.port)).text.endswith("HELLO\n")
        assert " 403 " in sandbox.run(request("bad.example", server.port)).text
        assert " 403 " in sandbox.run(request("127.0.0.1", server.port)).text
    assert record.told == [(HOST, True), ("bad.example", False), ("", False)]
    assert server.visits == 1


def test_a_name_on_loopback_is_refused_unless_nobody_checks(tmp_path: Path, server: Server) -> None:
    with proxied(tmp_path / "a", server.port, policy(answers("127.0.0.1"))) as sandbox:
        assert "private network" in sandbox.run(request(HOST, server.port)).text
    assert server.visits == 0
    with proxied(tmp_path / "b", server.port, unfiltered) as sandbox:
        assert sandbox.run(request(HOST, server.port)).text.endswith("HELLO\n")
    assert server.visits == 1


def test_there_is_no_direct_way(tmp_path: Path, server: Server) -> None:
    direct = f"""
import socket
print([line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line])
for address in (("127.0.0.1", {server.port}), ("192.0.2.1", 443), ("::1", {server.port})):
    try:
        socket.create_connection(address, timeout=60)
    except OSError as error:
        print("refused")
"""
    with proxied(tmp_path, server.port, unfiltered) as sandbox:
        assert sandbox.run(python(direct)).text == "['lo']\nrefused\nrefused\nrefused\n"
    assert server.visits == 0
    reached = subprocess.run(
        [sys.executable, "-I", "-S", "-c", direct.replace('("192.0.2.1", 443), ', "")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert server.visits == 1, f"the attack fires outside: {reached.stdout}"


def test_no_attack_gets_out_of_a_sandbox_with_a_proxy(tmp_path: Path) -> None:
    toolchain = Toolchain.of_platform()
    place = make_place(tmp_path / "place", overlay=False)
    with (
        selftest._bait(tmp_path) as bait,
        serving(tmp_path / "p", [HOST], unfiltered) as proxy,
        Bubblewrap(
            with_proxy(place, proxy).workspace,
            Limits(processes=selftest.PROCESSES),
            toolchain=toolchain,
        ) as sandbox,
    ):
        found = selftest.attack(sandbox, toolchain, bait)
    assert len(found) > 30
    assert {name: detail for name, detail in found.items() if detail} == {}


def test_without_a_proxy_there_is_no_trace_of_one(tmp_path: Path) -> None:
    listening = "cat /proc/net/tcp | grep -c ' 0A '; env | grep -ic proxy; ls /run; pgrep -c python"
    with make_place(tmp_path / "off").sandbox() as sandbox:
        assert sandbox.run(shell(listening)).text == "0\n0\ninit.py\n1\n"
    with proxied(tmp_path / "on", 443, unfiltered) as sandbox:
        found = sandbox.run(shell(listening)).text.split()
    assert found == ["1", "6", "init.py", "proxy.sock", "relay.py", "2"]


def test_the_way_can_be_neither_replaced_nor_removed(tmp_path: Path, server: Server) -> None:
    spoil = "rm -f /run/proxy.sock; mv /run/proxy.sock /tmp/x; chmod 0 /run/proxy.sock; echo >/run/relay.py"
    with proxied(tmp_path, server.port, unfiltered) as sandbox:
        sandbox.run(shell(f"({spoil}) 2>/dev/null; pkill -9 python; true"))
        assert sandbox.run(request(HOST, server.port)).text.endswith("HELLO\n")


def test_a_command_that_uses_up_the_processes_gets_no_way_and_the_next_one_does(
    tmp_path: Path, server: Server
) -> None:
    bomb = "import os, time\ntry:\n while True:\n  if not os.fork(): time.sleep(9)\nexcept OSError: pass\n"
    place = make_place(tmp_path / "place")
    with (
        serving(tmp_path, [f"{HOST}:{server.port}"], unfiltered) as proxy,
        with_proxy(place, proxy).sandbox(Limits(processes=16)) as sandbox,
    ):
        sandbox.run(python(bomb + ASK, connect_line(HOST, server.port).decode()))
        assert sandbox.run(request(HOST, server.port)).text.endswith("HELLO\n")


def test_connections_end_with_their_command_and_nothing_with_the_sandbox_is_left(
    tmp_path: Path, server: Server
) -> None:
    hold = f"""
import os, socket, time
way = socket.create_connection(("127.0.0.1", 3128), timeout=60)
way.sendall({connect_line(HOST, server.port)!r})
way.recv(100)
if os.fork():
    raise SystemExit
time.sleep(60)
"""
    with serving(tmp_path, [f"{HOST}:{server.port}"], unfiltered) as proxy:
        with with_proxy(make_place(tmp_path / "place"), proxy).sandbox() as sandbox:
            assert sandbox.run(python(hold)).exit_code == 0
            assert server.visits == 1
            assert eventually(lambda: not proxy._open)
            assert sandbox.run(shell("pgrep -c python")).text == "2\n"
        assert eventually(lambda: owned_by(Owner.this_process()) == [])
    assert not proxy.path.exists()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(FileNotFoundError):
        client.connect(str(proxy.path))
