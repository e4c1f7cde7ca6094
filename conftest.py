"""The cast: alice owns, mallory is signed in and must see nothing, victor may only look."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts import tokens
from accounts.models import Role, User
from asynccoder.lib import storage
from asynccoder.tests import github_server
from billing import limits

# The settings of the run are asynccoder.tests.environment; servers and workers as real processes:
pytest_plugins = ["asynccoder.tests.processes", "asynccoder.tests.scene"]


DATABASE_FIXTURES = {"db", "transactional_db"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the campaigns and benchmarks: begun last, they would leave other processes idle.

    All else stays in pytest-django's order: what a flush empties, the migrations have filled, and
    only tests with transactions of their own can do without.
    """
    usual = float(config.getini("timeout"))

    def head_start(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        fixtures = set(getattr(item, "fixturenames", ()))
        needs_database = item.get_closest_marker("django_db") or fixtures & DATABASE_FIXTURES
        return float(mark.args[0]) if mark and not needs_database else usual

    items.sort(key=head_start, reverse=True)


@pytest.fixture(autouse=True)
def _private_folder(settings, tmp_path):  # type: ignore[no-untyped-def]  # fixtures of pytest-django
    settings.VAR_DIR = tmp_path / "var"
    settings.RUNS_FOLDER = settings.VAR_DIR / "runs"
    runs = storage.in_folder(settings.RUNS_FOLDER)
    settings.STORAGES = settings.STORAGES | {"runs": runs}
    # The tests of the limits switch them on; for all others, they would count across tests.
    settings.RATELIMIT_ENABLE = False
    limits.forget()


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


@pytest.fixture
def github(settings) -> Iterator[github_server.FakeGithub]:  # type: ignore[no-untyped-def]  # a fixture of pytest-django
    """GitHub on loopback, which the settings name."""
    with github_server.serving() as served:
        settings.GITHUB_URL, settings.GITHUB_API_URL = served.url, served.api
        settings.GITHUB_CLIENT_ID = served.client_id
        settings.GITHUB_CLIENT_SECRET = served.client_secret
        settings.GITHUB_TIMEOUT_SECONDS = 5
        yield served
