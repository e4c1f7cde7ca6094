"""A repository's network list reaches its runs' sandboxes and their logs; off by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from asynccoder.lib import outbound
from asynccoder.tests.processes import Process
from tasks import lease, runner
from tasks.egress import MOST_TOLD, Egress, checked_address, limits_from_settings
from tasks.models import Status, Task
from tasks.sandbox.proxy import Refused, Verdict
from tasks.tests.network import PUBLIC, Server
from tasks.tests.world import World, bash, build_world, finish
from tasks.workspace import task_folder

runs = pytest.mark.django_db(transaction=True)
HOST = "good.example"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        yield served


def ask(host: str, port: int) -> dict[str, Any]:
    request = f"CONNECT {host}:{port} HTTP/1.1\\r\\n\\r\\nhello"
    return bash(
        f"exec 3<>/dev/tcp/127.0.0.1/3128 && printf '{request}' >&3 && timeout 9 head -c 44 <&3"
    )


def run_here(world: World, **values: Any) -> Task:
    """Run a task in this process, where a test can stand for the name server."""
    task = world.create(**values)
    claimed = lease.claim(worker="here")
    assert claimed is not None
    runner.run(claimed)
    task.refresh_from_db()
    return task


def network_log(task: Task) -> list[tuple[str, str]]:
    rows = task.log.filter(message__startswith="Network: ").order_by("sequence")
    return [(row.level, row.message.removeprefix("Network: ")) for row in rows]


def outputs(task: Task) -> str:
    return "".join(task.steps.values_list("outcome", flat=True))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stand for the name server."""
    table = {HOST: "127.0.0.1", "inner.example": "127.0.0.1", "far.example": PUBLIC}
    monkeypatch.setattr(outbound, "resolved", lambda host, _port: [table[host]])
    return table


@pytest.fixture
def play(
    alice: User,
    worker_process: Callable[..., Process],
    tmp_path: Path,
    settings: Any,
    names: dict[str, str],
) -> Callable[..., Task]:
    def play(script: list[dict[str, Any]], hosts: list[str]) -> Task:
        with build_world(alice, [*script, *finish()], worker_process, tmp_path / "code") as world:
            settings.OPENAI_BASE_URL = world.environment["OPENAI_BASE_URL"]
            settings.OPENAI_API_KEY = "sk-platform-key"
            world.repository.network_allow_list = hosts
            world.repository.save()
            return run_here(world)

    return play


@runs
def test_a_run_reaches_what_its_repository_lists_and_its_log_says_so(
    play: Callable[..., Task], server: Server, settings: Any
) -> None:
    settings.OUTBOUND_ALLOWED = [f"{HOST}:{server.port}"]
    change = bash("echo more >> app.py")
    script = [ask(HOST, server.port), ask(HOST, server.port), ask("bad.example", 443), change]
    task = play(script, [f"{HOST}:{server.port}"])
    assert task.status == Status.COMPLETED
    assert "HELLO" in outputs(task)
    assert network_log(task) == [
        ("info", f"{HOST}: let through"),
        ("warning", "bad.example: refused. This host is not in the repository's network list."),
    ]
    assert server.visits == 2
    assert list(task_folder(task.pk).glob("layers-*")) == []


@runs
def test_a_listed_name_in_a_private_network_needs_the_operator(
    play: Callable[..., Task], server: Server
) -> None:
    task = play([ask("inner.example", server.port)], [f"inner.example:{server.port}"])
    refusal = "inner.example: refused. This address leads into a private network."
    assert network_log(task) == [("warning", refusal)]
    assert server.visits == 0


@runs
def test_a_run_without_a_list_has_no_network(play: Callable[..., Task]) -> None:
    look = bash("env | grep -ci proxy; ls /run; cat /proc/net/tcp | grep -c ' 0A '")
    task = play([look, bash("echo more >> app.py")], [])
    assert task.status == Status.COMPLETED
    assert r"0\ninit.py\n0\n" in outputs(task)
    assert network_log(task) == []


@runs
def test_a_list_that_cannot_be_read_ends_the_run(play: Callable[..., Task]) -> None:
    task = play([], ["https://x"])
    assert (task.status, task.error_code) == (Status.FAILED, "network_list_bad")
    assert "'https://x'" in task.error_message


def test_addresses_are_judged_as_every_users_url(names: dict[str, str], settings: Any) -> None:
    assert checked_address("far.example", 443) == PUBLIC
    with pytest.raises(Refused, match="private network"):
        checked_address(HOST, 443)
    settings.OUTBOUND_ALLOWED = [f"{HOST}:443"]
    assert checked_address(HOST, 443) == "127.0.0.1"


def test_a_verdict_is_told_once_and_no_flood_of_them() -> None:
    egress = Egress(["a.example"])
    for _ in range(3):
        egress._heard.put(Verdict("a.example", is_allowed=True))
    assert [str(verdict) for verdict in egress.news()] == ["a.example: let through"]
    for number in range(2 * MOST_TOLD):
        egress._heard.put(Verdict(f"x{number}.example", is_allowed=False, reason="No."))
    assert len(egress.news()) == MOST_TOLD - 1
    egress._heard.put(Verdict("late.example", is_allowed=False))
    assert egress.news() == []


def test_the_limits_are_the_settings(settings: Any) -> None:
    settings.SANDBOX_NETWORK_BYTES = 1
    settings.SANDBOX_NETWORK_CONNECTIONS = 2
    settings.SANDBOX_NETWORK_SECONDS = 3.0
    limits = limits_from_settings()
    assert (limits.total, limits.connections, limits.connection_seconds) == (1, 2, 3.0)
