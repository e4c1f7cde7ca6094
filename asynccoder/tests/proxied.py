"""The platform as compose.yaml puts it together, on this machine: proxy, web and live server."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from asynccoder.tests.processes import (
    ROOT,
    Process,
    StartProcess,
    answers,
    free_port,
    launch,
    wait_for,
)

BIN = Path(sys.executable).parent
CADDYFILE = ROOT / "proxy" / "Caddyfile"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NO_CADDY = not (BIN / "caddy").exists()


@dataclass
class Proxied:
    """One running instance behind its proxy; ``url`` is where people reach it."""

    url: str
    authority: str
    """The file with the certificate authority that the proxy made for localhost."""
    web_url: str
    web: Process
    live: Process
    proxy: Process

    def get(self, path: str, **given: Any) -> requests.Response:
        return requests.get(f"{self.url}{path}", verify=self.authority, timeout=30, **given)

    def post(self, path: str, **given: Any) -> requests.Response:
        return requests.post(f"{self.url}{path}", verify=self.authority, timeout=30, **given)


def served(start_process: StartProcess, service: str, port: int, **environment: str) -> Process:
    """Start a service's own command at a port of this machine."""
    words = [word.replace("0.0.0.0", "127.0.0.1") for word in SERVICES[service]["command"]]
    words = [str(port) if word == "8000" else word for word in words]
    place = {"HOST": "127.0.0.1", "PORT": str(port)}
    process = start_process(str(BIN / words[0]), *words[1:], **place | environment)
    wait_for(
        lambda: answers(f"http://127.0.0.1:{port}/api/health/live") or process.popen.poll(),
        what=f"{service} answers",
    )
    assert process.popen.poll() is None, process.output()
    return process


@contextlib.contextmanager
def caddy(folder: Path, *, web: int, live: int) -> Iterator[tuple[str, str, Process]]:
    """Run the proxy before two ports; give its address, its authority and its process."""
    folder.mkdir()
    url, home = f"https://localhost:{free_port()}", folder / "data"
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(home),
        "XDG_CONFIG_HOME": str(folder), "CADDY_ADMIN": f"localhost:{free_port()}",
        "HTTP_PORT": str(free_port()), "PUBLIC_URL": url,
        "WEB_SERVER": f"127.0.0.1:{web}", "LIVE_SERVER": f"127.0.0.1:{live}",
    }  # fmt: skip
    config = folder / "Caddyfile"
    # Nobody on this machine shall trust what a test has signed.
    config.write_text(CADDYFILE.read_text().replace("{\n", "{\n\tskip_install_trust\n", 1))
    shutil.rmtree(home, ignore_errors=True)
    command = [str(BIN / "caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]
    process = launch(command, environment, folder / "log")
    authority = str(home / "caddy/pki/authorities/local/root.crt")
    try:
        wait_for(lambda: answers_by_tls(url, authority), what="the proxy answers")
        yield url, authority, process
    finally:
        process.end()


def answers_by_tls(url: str, authority: str) -> bool:
    """Tell whether the proxy answers, be it that there is nobody behind it yet."""
    with contextlib.suppress(OSError, requests.RequestException):
        requests.get(url, verify=authority, timeout=5, allow_redirects=False)
        return True
    return False
