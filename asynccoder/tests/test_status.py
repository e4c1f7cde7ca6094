"""The status page of seed 2 and the detailed health of seed 3."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from asynccoder.api import health, status

pytestmark = pytest.mark.django_db

WELL = {"workers": {"alive": 2, "slots": 8, "busy": 1}, "queue": {"waiting": 3}}


def well() -> dict[str, Any]:
    return WELL


def nobody() -> dict[str, Any]:
    return {"workers": {"alive": 0}}


def fail() -> dict[str, Any]:
    raise OSError


@pytest.fixture(autouse=True)
def _own_parts(settings: Any, tmp_path: Path) -> None:
    settings.UPCALLS = {"figures": f"{__name__}.well"}
    settings.VAR_DIR = tmp_path
    settings.SANDBOX_DISK_BYTES = 1
    status._is_secure.cache_clear()


def test_status_has_the_shape_of_the_seed(client: Client) -> None:
    response = client.get("/api/health/status")
    assert response.status_code == 200
    body = response.json()
    body.pop("timestamp")
    figures = body.pop("metrics")
    assert body == {
        "status": "operational",
        "version": "0.1.0",
        "components": dict.fromkeys(("api", "database", "cache", "security"), "healthy"),
    }
    assert figures.keys() == {
        "uptime_seconds", "requests_total", "requests_per_second", "memory_percent", "cpu_percent",
    }  # fmt: skip
    assert 0 < figures["memory_percent"] < 100
    assert 0 <= figures["cpu_percent"] <= 100
    assert figures["requests_total"] >= 0


def test_status_counts_the_requests_of_this_process(client: Client) -> None:
    first = client.get("/api/health/status").json()["metrics"]["requests_total"]
    client.get("/api/health/live")
    assert client.get("/api/health/status").json()["metrics"]["requests_total"] == first + 2


def test_a_cache_that_is_away_is_degraded(client: Client, settings: Any) -> None:
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": "unix:///nowhere.sock"}}
    for path, word in (
        ("/api/health/status", "degraded"),
        ("/api/v1/health/detailed", "unhealthy"),
    ):
        response = client.get(path)
        assert response.status_code == 503
        assert response.json()["status"] == word
        assert response.json()["components"]["cache"] == "unhealthy"
        assert response.json()["components"]["database"] == "healthy"


def test_dangerous_settings_are_no_healthy_security(client: Client, settings: Any) -> None:
    settings.JWT_SECRET = "short"
    response = client.get("/api/health/status")
    assert response.status_code == 503
    assert response.json()["components"]["security"] == "unhealthy"


def test_a_system_that_does_not_tell_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status.Processor, "STAT", Path("/no/such/file"))
    assert status.Processor().percent() is None


def test_everybody_sees_the_states_and_only_administrators_the_figures(
    api: APIClient, mallory_api: APIClient, staff_api: APIClient
) -> None:
    for client in (api, mallory_api):
        body = client.get("/api/v1/health/detailed").json()
        body.pop("timestamp")
        parts = ("database", "cache", "queue", "disk", "workers", "sandbox")
        assert body == {
            "status": "healthy",
            "version": "0.1.0",
            "components": dict.fromkeys(parts, "healthy"),
        }
    figures = staff_api.get("/api/v1/health/detailed").json()["figures"]
    disk = figures.pop("disk")
    assert figures == WELL
    assert disk["free_bytes"] > 0
    assert 0 < disk["used_percent"] < 100


@pytest.mark.parametrize("owner", ["nobody", "fail"])
def test_without_a_worker_it_is_unhealthy_and_the_sandbox_is_not_known(
    client: Client, settings: Any, owner: str
) -> None:
    settings.UPCALLS = {"figures": f"{__name__}.{owner}"}
    response = client.get("/api/v1/health/detailed")
    assert response.status_code == 503
    parts = response.json()["components"]
    assert (parts["workers"], parts["sandbox"]) == ("unhealthy", "unknown")


def test_a_full_disk_is_unhealthy(client: Client, settings: Any) -> None:
    settings.SANDBOX_DISK_BYTES = 2**60
    response = client.get("/api/v1/health/detailed")
    assert response.status_code == 503
    assert response.json()["components"]["disk"] == "unhealthy"


def test_a_disk_that_is_away_is_unhealthy_and_has_no_figures(
    staff_api: APIClient, settings: Any, tmp_path: Path
) -> None:
    settings.VAR_DIR = tmp_path / "away"
    response = staff_api.get("/api/v1/health/detailed")
    assert response.status_code == 503
    assert response.json()["components"]["disk"] == "unhealthy"
    assert response.json()["figures"]["disk"] == {}


def test_the_real_owner_of_the_figures_is_asked(client: Client, settings: Any) -> None:
    from asynccoder.settings import UPCALLS

    settings.UPCALLS = UPCALLS
    parts = client.get("/api/v1/health/detailed").json()["components"]
    assert parts["workers"] == "unhealthy"
    assert parts["queue"] == "healthy"


released = threading.Event()


def hang() -> dict[str, Any]:
    released.wait()
    return {}


def test_parts_that_hang_are_waited_for_together(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[float] = []
    is_well = health.Probe.is_well

    def noted(probe: health.Probe, *, until: float) -> bool:
        ends.append(until)
        return is_well(probe, until=until)

    monkeypatch.setattr(health.Probe, "is_well", noted)
    settings.UPCALLS = {"figures": f"{__name__}.hang", "queue_health": f"{__name__}.hang"}
    try:
        assert client.get("/api/v1/health/detailed").status_code == 503
    finally:
        released.set()
    # All ends are set at the beginning: one after the other they would be PROBE_SECONDS apart.
    assert len(ends) == 5
    assert max(ends) - min(ends) < health.PROBE_SECONDS < 2
