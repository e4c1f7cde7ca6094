"""The cast: alice owns, mallory is signed in and must see nothing, victor may only look."""

from __future__ import annotations

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts import tokens
from accounts.models import Role, User

# The settings of the run are asynccoder.tests.environment; servers and workers as real processes:
pytest_plugins = ["asynccoder.tests.processes"]


@pytest.fixture(autouse=True)
def _private_folder(settings, tmp_path):  # type: ignore[no-untyped-def]  # fixtures of pytest-django
    settings.VAR_DIR = tmp_path / "var"
    # The tests of the limits switch them on; for all others, they would count across tests.
    settings.RATELIMIT_ENABLE = False


def make_user(username: str, **values: object) -> User:
    values.setdefault("email", f"{username}@example.com")
    password = str(values.pop("password", "correct horse battery"))
    return User.objects.create_user(username=username, password=password, **values)  # type: ignore[arg-type]  # any field by keyword


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


def signed_in(user: User) -> APIClient:
    """Return a client that sends the user's bearer token."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.begin(user).access}")
    return client


@pytest.fixture
def api() -> APIClient:
    """A client that nobody is signed in with."""
    return APIClient()


@pytest.fixture
def alice_api(alice: User) -> APIClient:
    return signed_in(alice)


@pytest.fixture
def mallory_api(mallory: User) -> APIClient:
    return signed_in(mallory)


@pytest.fixture
def victor_api(victor: User) -> APIClient:
    return signed_in(victor)


@pytest.fixture
def staff_api(staff: User) -> APIClient:
    return signed_in(staff)


@pytest.fixture
def page(client: Client) -> Client:
    return client
