"""``/metrics``: who may read it, and that it counts what was served, by all processes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.testing import WebsocketCommunicator
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from accounts import keys
from accounts.models import User
from asynccoder.api import metrics
from asynccoder.asgi import application
from asynccoder.tests.processes import StartProcess

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(metrics, "DATABASE", metrics.Database())
    settings.UPCALLS = {}


def samples(text: str) -> dict[str, float]:
    """Return every sample of the text by its name and the values of its labels."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(client: Client) -> dict[str, float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    return samples(response.content.decode())


def test_requests_are_counted_by_route_and_status(client: Client, alice_api: APIClient) -> None:
    before = read(client)
    alice_api.get("/api/v1/tasks/?limit=1")
    for name in ("one", "two"):
        client.get(f"/api/v1/tasks/{name}")
        client.get(f"/no-such-page/{name}")
    client.get("/static/no-such-file")
    client.generic("BREW", "/ready/")
    after = read(client)
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown["asynccoder_requests_total GET /api/v1/tasks 200"] == 1
    assert grown["asynccoder_request_seconds_count GET /api/v1/tasks"] == 1
    assert grown["asynccoder_requests_total GET none 404"] == 4
    assert grown["asynccoder_requests_total other /ready 405"] == 1
    assert grown["asynccoder_requests_total GET /static/ 404"] == 1
    assert not [name for name in after if "no-such-page" in name or "one" in name.split("/")]


def sockets() -> float:
    (family,) = metrics.SOCKETS.collect()
    return family.samples[0].value


@pytest.mark.django_db(transaction=True)
def test_open_sockets_are_counted(client: Client) -> None:
    async def look() -> tuple[float, float]:
        socket = WebsocketCommunicator(application, "/ws")
        await socket.connect(timeout=60)
        opened = sockets()
        await socket.disconnect(timeout=60)
        return opened, sockets()

    opened, closed = async_to_sync(look)()
    assert opened == closed + 1
    assert read(client)["asynccoder_sockets_open"] == closed


def test_a_program_on_the_machine_may_read_and_one_behind_a_proxy_not(
    client: Client, settings: Any
) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="::1").status_code == 200
    for address in ("192.0.2.7", "10.0.0.1", ""):
        assert client.get("/metrics", REMOTE_ADDR=address).status_code == 401
    for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host"):
        assert client.get("/metrics", headers={name: "127.0.0.1"}).status_code == 401
    settings.NUM_PROXIES = 1
    assert client.get("/metrics").status_code == 401


def test_with_a_token_its_holder_reads_and_the_machine_does_not(
    client: Client, settings: Any
) -> None:
    settings.METRICS_TOKEN = "a token for the metrics"
    assert client.get("/metrics").status_code == 401
    for wrong in (
        "Bearer",
        "Bearer ",
        "Bearer a token",
        "Bearer é",
        "Basic a token for the metrics",
    ):
        assert client.get("/metrics", headers={"authorization": wrong}).status_code == 401
    right = {"authorization": "Bearer a token for the metrics"}
    assert client.get("/metrics", headers=right, REMOTE_ADDR="192.0.2.7").status_code == 200


def test_an_administrator_may_read_and_nobody_else(
    staff: User, staff_api: APIClient, mallory_api: APIClient, victor_api: APIClient, api: APIClient
) -> None:
    away: Any = {"REMOTE_ADDR": "192.0.2.7"}
    assert staff_api.get("/metrics", **away).status_code == 200
    assert mallory_api.get("/metrics", **away).status_code == 403
    assert victor_api.get("/metrics", **away).status_code == 403
    for scopes, status in (([], 200), (["task:read"], 401)):
        _, text = keys.create(user=staff, name="probe", scopes=scopes)
        assert api.get("/metrics", headers={"X-API-Key": text}, **away).status_code == status


def test_a_database_that_hangs_is_told_and_the_rest_answered(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.UPCALLS = {"metrics": f"{__name__}.hang"}
    monkeypatch.setattr(metrics, "DATABASE_SECONDS", 0.05)
    asked.clear()
    try:
        for _ in range(3):
            assert read(client)["asynccoder_database_read"] == 0
    finally:
        released.set()
    assert asked == [1]


def test_an_error_of_the_database_is_told_and_no_crash(client: Client, settings: Any) -> None:
    settings.UPCALLS = {"metrics": f"{__name__}.fail"}
    assert read(client)["asynccoder_database_read"] == 0


asked: list[int] = []
released = threading.Event()


def hang() -> list[Any]:
    asked.append(1)
    released.wait(60)
    return []


def fail() -> list[Any]:
    raise OSError


@pytest.mark.django_db(transaction=True)
def test_the_values_of_the_database_are_read_every_few_seconds(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.UPCALLS = {"metrics": "tasks.metrics.collect"}
    first = read(client)
    assert (first["asynccoder_database_read"], first["asynccoder_workers_alive"]) == (1, 0)
    settings.UPCALLS = {"metrics": f"{__name__}.fail"}
    assert read(client)["asynccoder_workers_alive"] == 0
    monkeypatch.setattr(metrics, "CACHED_SECONDS", 0)
    assert "asynccoder_workers_alive" not in read(client)


SERVE = """
import sys, django
django.setup()
from django.test import Client
from asynccoder.api import metrics
client = Client(SERVER_NAME="localhost")
for _ in range(int(sys.argv[1])):
    client.get("/api/health/live")
metrics.SOCKETS.inc()
print(client.get("/metrics").content.decode())
"""


@pytest.mark.django_db(transaction=True)
def test_several_processes_answer_for_each_other(
    start_process: StartProcess, tmp_path: Path
) -> None:
    folder = str(tmp_path / "counts")
    for requests in (3, 2):
        process = start_process(
            "-c", SERVE, str(requests), PROMETHEUS_MULTIPROC_DIR=folder,
            DJANGO_SETTINGS_MODULE="asynccoder.settings",
        )  # fmt: skip
        assert process.popen.wait(60) == 0, process.output()
    found = samples(process.output()[process.output().index("# HELP") :])
    assert found["asynccoder_requests_total GET /api/health/live 200"] == 5
    # The first one is gone, and its socket with it.
    assert found["asynccoder_sockets_open"] == 1
