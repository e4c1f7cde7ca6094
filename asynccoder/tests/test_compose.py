"""compose.yaml and the proxy's list of paths against the code that they serve."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
from django.core.management import get_commands

from asynccoder import asgi
from asynccoder.api import document
from asynccoder.tests.proxied import BIN, CADDYFILE, NO_CADDY, SERVICES
from asynccoder.tests.test_every_url_is_guarded import PATHS
from asynccoder.tests.test_house_style import ROOT, named_in_example

SAMPLE = "00000000-0000-0000-0000-000000000007"
OURS = [name for name, service in SERVICES.items() if service.get("build")]


def test_every_part_is_there() -> None:
    assert set(SERVICES) == {"proxy", "web", "live", "worker", "migrate", "postgres", "redis"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert all(service["env_file"][0]["path"] == ".env" for service in map(SERVICES.get, OURS))  # type: ignore[index] # ours have one


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_exists(name: str) -> None:
    command = SERVICES[name]["command"]
    words = " ".join(command[2:] if command[:2] == ["sh", "-c"] else command)
    for part in words.split(" && "):
        program, *arguments = part.split()
        assert (BIN / program).exists(), program
        if arguments[0] == "manage.py":
            assert arguments[1] in get_commands()


def test_every_variable_is_known() -> None:
    text = (ROOT / "compose.yaml").read_text()
    named = set(re.findall(r"\$\{(\w+)", text)) | {
        name for one in OURS for name in SERVICES[one]["environment"]
    }
    assert named - set(named_in_example()) == set()


def test_only_workers_are_let_make_sandboxes_and_nobody_has_more_than_it_needs() -> None:
    for name in OURS:
        loose = {word for word in SERVICES[name].get("security_opt", []) if "unconfined" in word}
        assert bool(loose) == (name == "worker")
        assert not SERVICES[name].get("privileged")
        assert not SERVICES[name].get("cap_add")
    published = [name for name, service in SERVICES.items() if service.get("ports")]
    assert published == ["proxy"]


# --- Which server answers what ------------------------------------------------------------------


@pytest.fixture(scope="module")
def live_paths() -> re.Pattern[str]:
    """What the proxy sends to the live server, from its configuration as it understands it."""
    if NO_CADDY:
        pytest.skip("no Caddy for this system")
    command = [str(BIN / "caddy"), "adapt", "--config", str(CADDYFILE), "--adapter", "caddyfile"]
    done = subprocess.run(command, capture_output=True, check=True)
    return re.compile(next(_patterns(json.loads(done.stdout))))


def _patterns(part: Any) -> Any:
    if isinstance(part, dict):
        if "path_regexp" in part:
            yield part["path_regexp"]["pattern"]
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from _patterns(one)


def wants_the_live_server(operation: dict[str, Any]) -> bool:
    """Tell whether an operation answers with a stream or waits for a result."""
    kinds = [kind for one in operation["responses"].values() for kind in one.get("content", {})]
    waits = any(one.get("name") == "wait" for one in operation.get("parameters", []))
    return waits or "text/event-stream" in kinds


def test_streams_and_sockets_go_to_the_live_server_and_all_else_to_the_web(
    live_paths: re.Pattern[str],
) -> None:
    wanting = {
        re.sub(r"\{\w+\}", SAMPLE, path)
        for path, item in document.document()["paths"].items()
        for operation in item.values()
        if wants_the_live_server(operation)
    }
    assert len(wanting) == 3
    assert wanting <= set(PATHS)
    for path in PATHS:
        for spelled in {path, path.rstrip("/") + "/"}:
            assert bool(live_paths.search(spelled)) == (path in wanting), spelled
    sockets = [pattern for pattern in asgi.ROUTES if pattern]
    samples = ["ws", *(f"api/ws/{kind}/{SAMPLE}" for kind in ("task", "build", "analysis"))]
    for sample in (*samples, *(f"{sample}/" for sample in samples)):
        assert any(re.search(pattern, sample) for pattern in sockets)
        assert live_paths.search(f"/{sample}")
    assert all(any(re.search(pattern, one) for one in samples) for pattern in sockets)
