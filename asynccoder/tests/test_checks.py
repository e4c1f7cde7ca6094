from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asynccoder.checks import check_instance, check_production
from asynccoder.tests.processes import ROOT, process_environment


def ids(messages: list[Any]) -> list[str]:
    return [message.id.removeprefix("asynccoder.") for message in messages]


@pytest.fixture(autouse=True)
def _good(settings: Any) -> None:
    settings.RATELIMIT_ENABLE = True
    settings.SECRET_KEY = settings.JWT_SECRET = "x" * 50
    settings.PUBLIC_URL = "https://coder.example.org"
    settings.IS_HTTPS = True
    settings.ALLOWED_HOSTS = ["coder.example.org"]
    settings.UPCALLS = {}
    settings.ENVIRONMENT = "production"


def test_a_good_instance_has_nothing_to_say() -> None:
    assert check_instance(None) == []
    assert check_production(None) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SECRET_KEY", "x" * 31, "E001"),
        ("JWT_SECRET", "short", "E001"),
        ("FIELD_ENCRYPTION_KEYS", ["nokey"], "E002"),
        ("FIELD_ENCRYPTION_KEYS", [], "E002"),
        ("ALLOWED_HOSTS", ["other.example.org"], "E003"),
        ("UPCALLS", {"x": "no.such.thing"}, "E005"),
    ],
)
def test_what_would_not_work_is_an_error(
    settings: Any, name: str, value: Any, expected: str
) -> None:
    setattr(settings, name, value)
    assert ids(check_instance(None)) == [expected]


@pytest.mark.parametrize("change", [{"general": "often"}, {"plans": {"free": "0/h"}}])
def test_a_rate_that_is_none_is_an_error(settings: Any, change: dict[str, Any]) -> None:
    settings.RATE_LIMITS = settings.RATE_LIMITS | change
    assert ids(check_instance(None)) == ["E004"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DEBUG", True, "E010"),
        ("ALLOWED_HOSTS", ["*"], "E011"),
        ("ALLOWED_HOSTS", ["localhost", "127.0.0.1"], "W012"),
        ("RATELIMIT_ENABLE", False, "E013"),
        ("IS_HTTPS", False, "W014"),
    ],
)
def test_what_is_dangerous_in_public_is_refused_there_only(
    settings: Any, name: str, value: Any, expected: str
) -> None:
    setattr(settings, name, value)
    assert ids(check_production(None)) == [expected]
    settings.ENVIRONMENT = "development"
    assert check_production(None) == []


@pytest.mark.parametrize(("values", "status"), [({}, 0), ({"DEBUG": "true"}, 1)])
def test_what_compose_yaml_sets_is_enough_to_start(
    values: dict[str, str], status: int, tmp_path: Path
) -> None:
    environment = process_environment() | {"ENVIRONMENT": "production", "VAR_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment | values,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
