"""What the doctor finds on the machine, in the settings and among the workers."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts.models import User
from aimodels.models import AIModel
from asynccoder.doctor import clock, configuration, machine, sandboxes, workers
from tasks import heartbeat, lease
from tasks.models import Task, WorkerHeartbeat
from tasks.sandbox import selftest
from tasks.tests.make import make_model, make_task
from tasks.tests.test_doctor_command import said
from tasks.tests.test_lease import expire

LONG_AGO = timedelta(minutes=5)


# --- the machine --------------------------------------------------------------------------------


def test_room_for_less_than_a_run_is_a_failure(settings: Any, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    settings.WORKER_SLOTS = 4
    settings.SANDBOX_DISK_BYTES = free // 16
    assert said(machine.check_disk).startswith("ok VAR_DIR has ")
    settings.SANDBOX_DISK_BYTES = free // 2
    assert "less than 4 runs may need: make room." in said(machine.check_disk)
    settings.SANDBOX_DISK_BYTES = free * 2
    assert said(machine.check_disk).startswith("FAILED ")


def test_few_inodes_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "INODES_WARNING", 2**63)
    assert said(machine.check_disk).startswith("warning ")
    monkeypatch.setattr(machine, "INODES_FAILED", 2**63)
    assert said(machine.check_disk).startswith("FAILED ")


def test_a_folder_in_memory_is_a_warning(settings: Any) -> None:
    assert machine.file_system(Path("/proc/self")) == "proc"
    if machine.file_system(Path("/dev/shm")) != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    settings.VAR_DIR = Path("/dev/shm/asynccoder-doctor")
    try:
        assert said(machine.check_var_dir).startswith("warning VAR_DIR lies in memory (tmpfs)")
    finally:
        settings.VAR_DIR.rmdir()


def test_a_folder_that_takes_no_writes_is_a_failure(settings: Any) -> None:
    # The kernel refuses every write below /proc, to root as well.
    settings.VAR_DIR = Path("/proc/self")
    assert "FAILED /proc/self cannot be written" in said(machine.check_var_dir)


def test_programs_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Names that no machine has stand for programs that this one happens to have.
    monkeypatch.setattr(machine, "NEEDED", ("bash", "no-such-shell"))
    monkeypatch.setattr(machine, "USEFUL", ("no-such-linter",))
    assert said(machine.check_programs).splitlines() == [
        "FAILED no-such-shell is missing inside sandboxes: install it on this machine.",
        "warning no-such-linter is missing inside sandboxes: analyses and checks do without it.",
    ]


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("seconds", "verdict"), [(5, "warning"), (3600, "FAILED")])
def test_a_clock_that_runs_ahead_is_named(seconds: int, verdict: str) -> None:
    assert said(clock.check_clock).startswith("ok within 2 s of Redis")
    with time_machine.travel(timezone.now() + timedelta(seconds=seconds), tick=True):
        lines = said(clock.check_clock).splitlines()
    assert all(line.startswith(f"{verdict} this machine is ") for line in lines)
    assert len(lines) == (2 if connection.vendor == "postgresql" else 1)
    assert "ahead of Redis" in lines[0]


def test_a_sandbox_that_lets_one_out_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    out = [
        selftest.Finding("read_file", held=True),
        selftest.Finding("tcp", held=False, detail="x"),
    ]
    # No sandbox here lets anything out, so the finding is made up.
    monkeypatch.setattr(selftest, "run", lambda _: out)
    assert said(sandboxes.check_attacks) == "FAILED the sandbox does not hold: tcp (x)."


# --- the settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"LEASE_RENEW_SECONDS": 20}, "warning LEASE_RENEW_SECONDS (20) is over half of"),
        ({"LEASE_RENEW_SECONDS": 30}, "FAILED LEASE_RENEW_SECONDS (30) and CANCEL_POLL_SECONDS"),
        (
            {"LEASE_SECONDS": 600, "LEASE_RENEW_SECONDS": 90},
            "FAILED LEASE_RENEW_SECONDS (90) is 60 or more",
        ),
        ({"SWEEP_SECONDS": 300}, "warning SWEEP_SECONDS (300) is long"),
        ({"AGENT_WRAP_UP_SECONDS": 9000}, "warning AGENT_WRAP_UP_SECONDS is not below"),
        ({"PUBLIC_URL": "localhost:8000"}, "FAILED PUBLIC_URL must be such as"),
        ({"PUBLIC_URL": "http://localhost/coder"}, "FAILED PUBLIC_URL must be such as"),
        ({"ENVIRONMENT": "production", "DEBUG": True}, "FAILED asynccoder.E010"),
        ({"ENVIRONMENT": "production"}, "warning asynccoder.W014"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    settings: Any, values: dict[str, Any], told: str
) -> None:
    assert said(configuration.check_settings).startswith("ok ")
    for name, value in values.items():
        setattr(settings, name, value)
    assert told in said(configuration.check_settings)


@pytest.mark.services
def test_secrets_of_one_machine_are_a_warning_where_machines_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("JWT_SECRET")
    is_shared = connection.vendor != "sqlite"
    told = "warning JWT_SECRET were made here and lie in VAR_DIR/secrets"
    assert (told in said(configuration.check_settings)) is is_shared


def test_models_without_a_key_are_a_warning(db: None, settings: Any) -> None:
    AIModel.objects.update(is_active=False)
    assert said(configuration.check_models) == (
        "FAILED no model is known: run manage.py loadmodels."
    )
    make_model(provider="openai", name="scripted", display_name="Scripted")
    assert said(configuration.check_models).startswith("warning no provider has a key")
    settings.OPENAI_API_KEY = "sk-platform-key"
    assert said(configuration.check_models) == "ok builtin: 0 models; openai: 1 models"


# --- the workers --------------------------------------------------------------------------------


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_tasks_that_wait_in_vain_are_counted(alice: User, settings: Any) -> None:
    assert said(workers.check_workers).startswith("warning no worker is alive")
    task = make_task(owner=alice)
    Task.objects.filter(pk=task.pk).update(created_at=timezone.now() - LONG_AGO)
    assert said(workers.check_workers).startswith("FAILED 1 tasks have waited for over a minute")
    heartbeat.beat(worker="one", slots=2, runs=2)
    assert "; 2 of 2 slots are taken: raise WORKER_SLOTS" in said(workers.check_workers)
    WorkerHeartbeat.objects.update(version="0.0.1")
    assert "warning a worker runs version 0.0.1" in said(workers.check_workers)


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_leases_that_nobody_takes_back_are_a_failure(alice: User) -> None:
    task = make_task(owner=alice)
    assert lease.claim(worker="gone")
    heartbeat.beat(worker="one", slots=2, runs=0)
    assert said(workers.check_workers).startswith("ok 1 alive, 0 of 2 slots taken")
    expire(task)
    assert "FAILED 1 leases ran out and no sweep took them back" in said(workers.check_workers)
