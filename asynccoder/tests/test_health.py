from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from asynccoder.api import health

pytestmark = pytest.mark.django_db
PATHS = ["/health", "/ready", "/api/health/", "/api/health/ready", "/api/health/live"]


@pytest.fixture(autouse=True)
def _own_parts(settings: Any, tmp_path: Path) -> None:
    settings.UPCALLS = {}
    settings.VAR_DIR = tmp_path


@pytest.fixture
def silent_server(settings: Any) -> Iterator[None]:
    """A Redis that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}"
        yield


@pytest.mark.parametrize("path", PATHS)
def test_a_healthy_instance_answers_200_to_anybody(client: Client, path: str) -> None:
    for variant in (path.rstrip("/"), path.rstrip("/") + "/"):
        assert client.get(variant).status_code == 200
        assert client.head(variant).status_code == 200
        assert client.post(variant).status_code == 405


def test_health_tells_the_parts(client: Client) -> None:
    body = client.get("/health").json()
    uptime = body.pop("uptime")
    body.pop("timestamp")
    assert isinstance(uptime, int)
    assert body == {
        "status": "healthy",
        "services": {"database": "healthy", "redis": "healthy", "queue": "healthy"},
        "version": "0.1.0",
        "environment": "test",
    }


def test_ready_tells_the_connections(client: Client) -> None:
    services = {"database": "connected", "redis": "connected", "storage": "connected"}
    assert client.get("/ready").json() == {"status": "ready", "services": services}


def test_an_absent_redis_is_503_and_liveness_stays(client: Client, settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere.sock"
    response = client.get("/health")
    assert response.status_code == 503
    states = response.json()["services"]
    assert states == {"database": "healthy", "redis": "unhealthy", "queue": "unhealthy"}
    assert client.get("/ready").status_code == 503
    assert client.get("/api/health/live").status_code == 200


@pytest.mark.usefixtures("silent_server")
def test_a_redis_that_hangs_is_503_and_is_not_waited_for(client: Client) -> None:
    assert client.get("/health").status_code == 503
    assert health.PROBE_SECONDS < 2


def test_a_part_that_hangs_gets_one_thread_and_no_more_time() -> None:
    release, asked = threading.Event(), []

    def ask() -> None:
        asked.append(1)
        release.wait()

    probe = health.Probe(ask)
    for _ in range(5):
        assert not probe.is_well(until=time.monotonic() + 0.05)
    assert len(asked) == 1
    release.set()
    assert probe.is_well(until=time.monotonic() + 5)


def test_the_owner_of_the_queue_is_asked(client: Client, settings: Any) -> None:
    settings.UPCALLS = {"queue_health": f"{__name__}.no_worker"}
    body = client.get("/health").json()
    assert body["services"] == {"database": "healthy", "redis": "healthy", "queue": "unhealthy"}


def no_worker() -> None:
    raise RuntimeError


def test_a_folder_that_is_gone_is_not_ready(client: Client, settings: Any, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path / "gone"
    response = client.get("/ready")
    assert response.status_code == 503
    assert response.json()["services"]["storage"] == "disconnected"
