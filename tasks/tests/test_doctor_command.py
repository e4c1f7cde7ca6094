"""``manage.py doctor`` says what is wrong, one line each, and goes on after the first."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from asynccoder.tests.processes import free_port


def doctor(*arguments: str) -> tuple[int, dict[str, str]]:
    out = io.StringIO()
    status = 0
    try:
        call_command("doctor", *arguments, stdout=out)
    except SystemExit as end:
        status = int(str(end.code))
    return status, dict(line.split(maxsplit=1) for line in out.getvalue().splitlines())


def test_a_well_instance_passes_every_check(db: None) -> None:
    status, lines = doctor()
    assert status == 0
    assert lines == dict.fromkeys(
        ["python", "git", "VAR_DIR", "database", "redis", "sandbox"], "ok"
    )


def test_everything_wrong_is_named_at_once(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    settings.VAR_DIR = tmp_path / "file" / "var"
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setenv("PATH", str(tmp_path))
    status, lines = doctor()
    assert status == 1
    failed = {name for name, verdict in lines.items() if verdict.startswith("FAILED")}
    assert failed >= {"git", "VAR_DIR", "redis"}
    assert (lines["python"], lines["database"]) == ("ok", "ok")


def test_migrations_that_wait_are_counted(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = "django.db.migrations.executor.MigrationExecutor.migration_plan"
    # Taking a table back for real would break the tests that follow on this database.
    monkeypatch.setattr(plan, lambda *_: [object(), object()])
    status, lines = doctor("--no-attacks")
    assert status == 1
    assert lines["database"] == "FAILED  2 migrations are not applied: run manage.py migrate."
    assert lines["sandbox"] == "ok"
