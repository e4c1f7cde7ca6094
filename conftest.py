"""The cast: alice owns, mallory is signed in and must see nothing, victor may only look."""

from __future__ import annotations

import pytest
from django.conf import settings as project_settings
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import Role, User


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """Test SQLite as a file: in memory, threads and processes see locks that no server has."""
    database = project_settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        folder = tmp_path_factory.mktemp("database")
        database.setdefault("TEST", {})["NAME"] = str(folder / "test.sqlite3")


@pytest.fixture(autouse=True)
def _fast_and_private(settings, tmp_path):  # type: ignore[no-untyped-def]
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.VAR_DIR = tmp_path / "var"


def make_user(username: str, **values: object) -> User:
    values.setdefault("email", f"{username}@example.com")
    password = str(values.pop("password", "correct horse battery"))
    return User.objects.create_user(username=username, password=password, **values)  # type: ignore[arg-type]


@pytest.fixture
def alice(db: None) -> User:
    return make_user("alice")


@pytest.fixture
def mallory(db: None) -> User:
    return make_user("mallory")


@pytest.fixture
def victor(db: None) -> User:
    return make_user("victor", role=Role.VIEWER)


@pytest.fixture
def staff(db: None) -> User:
    return make_user("staff", role=Role.ADMIN, is_staff=True, is_superuser=True)


@pytest.fixture
def api() -> APIClient:
    return APIClient()


@pytest.fixture
def page(client: Client) -> Client:
    return client
