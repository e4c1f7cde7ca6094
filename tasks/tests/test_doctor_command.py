"""``manage.py doctor`` says what is wrong, one line each, and goes on after the first."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management import call_command
from django.db import connection

from asynccoder.doctor import broker, database, findings
from asynccoder.doctor.findings import Finding
from asynccoder.tests.processes import ROOT, free_port, process_environment, running_redis
from tasks import heartbeat
from tasks.tests.make import make_model

CHECKS = [
    "python", "git", "programs", "VAR_DIR", "disk", "storage", "settings", "database", "redis", "cache",
    "clock", "models", "sandbox", "workers",
]  # fmt: skip


def doctor(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    status = 0
    try:
        call_command("doctor", *arguments, stdout=out)
    except SystemExit as end:
        status = int(str(end.code))
    return status, out.getvalue()


def read(output: str) -> dict[str, list[tuple[str, str]]]:
    """Return the verdicts and messages of every check, from ``--json``."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in json.loads(output)["findings"]:
        found.setdefault(line["check"], []).append((line["verdict"], line["message"]))
    return found


def said(check: findings.Check) -> str:
    """Return what one check finds, as the report shows it."""
    return "\n".join(f"{line.verdict} {line.message}" for line in findings.examine(check))


@pytest.fixture
def own_redis(tmp_path: Path, settings: Any) -> Iterator[redis.Redis]:
    """A Redis of the test's own, which the doctor is sent to."""
    with running_redis(tmp_path / "own") as url, redis.Redis.from_url(url) as client:
        settings.REDIS_URL = url
        yield client


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_a_well_instance_passes_every_check(settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-platform-key"
    make_model(provider="openai", name="scripted", display_name="Scripted")
    heartbeat.beat(worker="one", slots=4, runs=1)
    status, output = doctor()
    lines = [line.split(maxsplit=2) for line in output.splitlines()]
    assert {tuple(line[:2]) for line in lines} == {(name, "ok") for name in CHECKS}
    assert status == 0
    assert "attacks were held" in output
    assert "openai: 1 models" in output
    assert "sk-platform-key" not in output


def test_everything_wrong_is_named_at_once(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    settings.VAR_DIR = tmp_path / "file" / "var"
    settings.REDIS_URL = f"redis://:pass@127.0.0.1:{free_port()}/0"
    settings.LEASE_RENEW_SECONDS = settings.LEASE_SECONDS
    monkeypatch.setenv("PATH", str(tmp_path))
    status, output = doctor("--json")
    assert status == 1
    assert json.loads(output)["ok"] is False
    assert ":pass" not in output
    found = read(output)
    assert list(found) == CHECKS
    failed = {name for name, lines in found.items() if "FAILED" in dict(lines)}
    assert failed >= {"git", "VAR_DIR", "redis", "settings"}
    assert found["git"] == [("FAILED", "git is missing: install the package git.")]
    assert found["database"][0][0] == "ok"


def test_warnings_alone_are_no_failure(db: None) -> None:
    make_model()
    status, output = doctor("--json", "--no-attacks")
    assert status == 0
    assert read(output)["workers"][0][0] == "warning"
    assert read(output)["sandbox"] == [("ok", "one was started; not attacked")]


def test_a_check_that_breaks_is_a_failure_and_no_secret_is_told() -> None:
    def check() -> Iterator[Finding]:
        yield findings.ok("so far")
        raise ConnectionError("redis://:password@host")

    assert said(check) == "ok so far\nFAILED this check broke off: ConnectionError."


# --- the database -------------------------------------------------------------------------------


def test_an_unmigrated_database_is_named(db: None, tmp_path: Path) -> None:
    environment = process_environment() | {"DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3"}
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--no-attacks", "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    found = read(done.stdout)
    [(verdict, message)] = found["database"]
    assert verdict == "FAILED"
    assert message.endswith("migrations are not applied: run manage.py migrate.")
    assert found["workers"][0][1].startswith("nobody can tell")


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_an_unsafe_or_slow_database_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(database.check_database).startswith("ok ")
    monkeypatch.setattr(database, "SLOW_MS", -1.0)
    assert "warning a conditional UPDATE takes" in said(database.check_database)
    if connection.vendor == "sqlite":
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", "DEFERRED")
        assert "with DEFERRED transactions: writes at the same" in said(database.check_database)
    else:
        with connection.cursor() as cursor:
            cursor.execute("SET TIME ZONE 'Asia/Tokyo'")
        assert "are in the time zone Asia/Tokyo" in said(database.check_database)
        connection.close()


def test_an_old_database_is_named(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.features, "minimum_database_version", (99, 1))
    assert "is too old: it must be 99.1 or newer." in said(database.check_database)


# --- Redis --------------------------------------------------------------------------------------


def test_a_well_redis_keeps_nothing_of_the_doctors(own_redis: redis.Redis) -> None:
    assert said(broker.check_redis).endswith("the doorbell rings and wakes")
    assert own_redis.keys("*") == []


@pytest.mark.parametrize(
    ("policy", "verdict"), [("allkeys-lru", "FAILED"), ("volatile-ttl", "warning")]
)
def test_a_redis_that_forgets_is_named(own_redis: redis.Redis, policy: str, verdict: str) -> None:
    own_redis.config_set("maxmemory-policy", policy)
    assert said(broker.check_redis).startswith(f"{verdict} its maxmemory-policy is {policy}")


def test_a_full_redis_is_named(own_redis: redis.Redis) -> None:
    own_redis.config_set("maxmemory", 32 * 1024**2)
    own_redis.setrange("ballast", 27 * 1024**2, "x")
    assert "of its maxmemory: raise maxmemory." in said(broker.check_redis)
    own_redis.config_set("maxmemory", "1")
    told = said(broker.check_redis)
    assert "soon takes nothing any more: raise maxmemory." in told
    assert "FAILED it takes no message (OutOfMemoryError)" in told


def test_a_replica_is_named(own_redis: redis.Redis) -> None:
    own_redis.replicaof("127.0.0.1", free_port())
    assert said(broker.check_redis) == "FAILED REDIS_URL leads to a replica: name the primary."


def test_a_cache_that_does_not_keep_is_named(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert said(broker.check_cache).startswith("FAILED 100 counts made None")


def test_a_cache_that_does_not_answer_is_named(settings: Any) -> None:
    location = f"redis://:pass@127.0.0.1:{free_port()}/0"
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": location}}
    assert said(broker.check_cache) == (
        "FAILED it does not work (ConnectionError): see the line of Redis."
    )
