"""What a client may not choose stays as it is, on every route that writes.

Each request is made twice, each time undone: with what the route takes, and with every other field of
every table beside it, set to what would harm. The whole database must be the same after both.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import models, transaction
from rest_framework.test import APIClient

from accounts import keys as access_keys
from accounts import tokens
from accounts.api import serializers as accounts
from accounts.models import User
from accounts.tests.clerk_server import running_clerk
from aimodels import keys as provider_keys
from aimodels import own
from aimodels.api import serializers as aimodels
from asynccoder.api import document
from asynccoder.api.dialects import camelised
from asynccoder.tests.github_server import TOKEN as GITHUB_TOKEN
from asynccoder.tests.github_server import FakeGithub
from asynccoder.tests.test_every_route_asks_for_its_credential import API, UNSAFE
from asynccoder.tests.test_every_url_speaks_its_dialect import PLAIN
from billing.api import serializers as billing
from billing.tests.make import give
from conftest import signed_in
from repositories.api import serializers as repositories
from repositories.tests.github_server import connect_account
from repositories.tests.make import make_upstream
from tasks import streams
from tasks.api import serializers as tasks
from tasks.tests.make import make_repository, make_task

OUR_APPS = ("accounts", "aimodels", "billing", "repositories", "tasks")
TABLES = [table for app in OUR_APPS for table in apps.get_app_config(app).get_models()]
SECRETS = re.compile(r"password|digest|prefix|sealed_\w+|masked|session_key")
UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
MORE = (
    "user", "owner", "permissions", "groups", "user_permissions", "is_admin", "can_work", "credits",
    "held_credits", "total_credits_used", "balance", "price", "state", "subscription_tier", "model_id",
    "pk", "_state", "__class__", "created_by",
)  # fmt: skip
MODEL_URL = "http://127.0.0.1:9/v1"
PLAIN_KEY = "sk-test-0123456789abcdefWXYZ"


@dataclass(frozen=True)
class World:
    """Alice's things, whose ids the routes name, and the ids that the snapshots know."""

    ids: dict[str, str]
    known: dict[str, str]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    body: dict[str, Any]
    takes: type[Any] | None = None
    status: int = 200
    is_open: bool = False


class Reusable(dict[str, str]):
    """GitHub's codes, which serve again: each request is made twice."""

    def pop(self, code: str, *_: Any) -> str:
        return self[code]


LOGIN = {"email": "alice", "password": "correct horse battery"}
REFRESH, CODE = {"refresh_token": "{refresh_token}"}, {"code": "a_code"}
CLERK = {"clerk_token": "{clerk_token}"}
REGISTRATION = {"email": "ann@example.com", "password": "correct horse battery"}
TASK = {"type": "debug", "prompt": "Fix it", "repository_id": "{repository}", "model": "builtin"}
MODEL = {"name": "mine", "base_url": MODEL_URL}
PROFILE = {"display_name": "New"}
ANALYSIS = {"project_name": "connected"}
EXECUTION = {
    "task_type": "debug",
    "prompt": "Fix it",
    "repository_id": "{repository}",
    "model": "builtin",
}

ROUTES = [
    Route("post", "/api/auth/register", REGISTRATION, accounts.RegistrationSerializer, 201, True),
    Route("post", "/api/v1/auth/register", REGISTRATION, accounts.RegistrationSerializer, 201, True),
    Route("post", "/api/v1/auth/login", LOGIN, accounts.LoginSerializer, 200, True),
    Route("post", "/api/auth/login", LOGIN, accounts.LoginSerializer, 200, True),
    Route("post", "/auth/login", LOGIN, accounts.LoginSerializer, 200, True),
    Route("post", "/api/auth/login", CLERK, accounts.ClerkSerializer, 200, True),
    Route("post", "/api/auth/refresh", REFRESH, accounts.RefreshSerializer, 200, True),
    Route("post", "/api/v1/auth/refresh", REFRESH, accounts.RefreshSerializer, 200, True),
    Route("post", "/api/auth/github/connect", CODE, accounts.GithubCodeSerializer),
    Route("post", "/api/v1/users/github", CODE, accounts.GithubCodeSerializer),
    Route("delete", "/api/v1/users/github", {}),
    Route("post", "/api/v1/users/clerk", CLERK, accounts.ClerkSerializer),
    Route("put", "/api/users/me", PROFILE, accounts.ProfileSerializer),
    Route("put", "/api/v1/users/me", PROFILE, accounts.ProfileSerializer),
    Route("put", "/api/v1/users/profile", PROFILE, accounts.ProfileSerializer),
    Route("post", "/api/v1/access-keys", {"name": "ci"}, accounts.AccessKeySerializer, 201),
    Route("delete", "/api/v1/access-keys/{access_key}", {}),
    Route("post", "/api/v1/api-keys", {"provider": "openai", "key": PLAIN_KEY}, aimodels.ProviderKeySerializer, 201),
    Route("put", "/api/v1/api-keys/{provider_key}", {"name": "New"}, aimodels.ProviderKeySerializer),
    Route("delete", "/api/v1/api-keys/{provider_key}", {}, status=204),
    Route("post", "/api/v1/models", MODEL, aimodels.OwnModelSerializer, 201),
    Route("put", "/api/v1/models/{own_model}", {"display_name": "New"}, aimodels.OwnModelSerializer),
    Route("delete", "/api/v1/models/{own_model}", {}, status=204),
    Route("post", "/api/v1/models/test", {"model_id": "{own_model}"}, aimodels.TrialSerializer),
    Route("post", "/api/v1/billing/subscribe", {"plan": "pro"}, billing.SubscribeSerializer, 503),
    Route("post", "/api/v1/repositories", {"url": "{upstream}"}, repositories.ConnectSerializer, 201),
    Route("put", "/api/v1/repositories/{repository}", {"setup_command": "make"}, repositories.EditSerializer),
    Route("patch", "/api/v1/repositories/{repository}", {"setup_command": "make"}, repositories.EditSerializer),
    Route("delete", "/api/v1/repositories/{spare}", {}, status=204),
    Route("post", "/api/v1/repositories/sync", {"force": True}, repositories.SyncSerializer),
    Route("post", "/api/repositories/sync", {"force": False}, repositories.SyncSerializer),
    Route("post", "/api/v1/tasks", TASK, tasks.TaskRequestSerializer, 201),
    Route("post", "/api/tasks", TASK, tasks.TaskRequestSerializer, 201),
    Route("put", "/api/v1/tasks/{task}", {"title": "New"}, tasks.TaskEditSerializer),
    Route("put", "/api/tasks/{task}/cancel", {}),
    Route("post", "/api/v1/tasks/{task}/cancel", {}),
    Route("post", "/api/build", {"project_name": "mine", "goal": "A thing"}, tasks.BuildRequestSerializer, 202),
    Route("post", "/api/analysis", ANALYSIS, tasks.AnalysisRequestSerializer, 202),
    Route("post", "/api/v1/execute", EXECUTION, tasks.ExecuteRequestSerializer, 202),
    Route("post", "/api/v1/execute/stream", EXECUTION, tasks.ExecuteRequestSerializer),
]  # fmt: skip


SIGNED = {("post", "/api/webhooks/github")}
"""Believed by a signature over the whole body: nobody else can add a field."""


def operations_with_a_body(paths: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (method, re.sub(r"\{\w+\}", "{}", path))
        for path, item in paths.items()
        for method, operation in item.items()
        if "requestBody" in operation
    }


def test_every_operation_that_takes_a_body_has_a_row() -> None:
    taking = operations_with_a_body(document.document()["paths"])
    rows = {(route.method, re.sub(r"\{\w+\}", "{}", route.path)) for route in ROUTES if route.body}
    assert len(taking) > 20
    assert taking - rows == SIGNED


@pytest.fixture
def clerk_token(settings: Any) -> Iterator[str]:
    with running_clerk() as clerk:
        settings.CLERK_ISSUER = clerk.url
        yield clerk.token(email="carol@example.com", email_verified=True)


@pytest.fixture
def world(
    alice: User, mallory: User, settings: Any, tmp_path: Path, github: FakeGithub,
    clerk_token: str, monkeypatch: pytest.MonkeyPatch,
) -> World:  # fmt: skip
    # The client of the tests is no ASGI server: a stream of its own has no slot.
    monkeypatch.setattr(streams, "slot_of", lambda request, user: streams.Slot())
    connect_account(alice, github)
    github.codes = Reusable(a_code=GITHUB_TOKEN)
    github.add_repository("octo/found")
    settings.LOCAL_REPOSITORIES = [str(tmp_path)]
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:9"]
    settings.STRIPE_SECRET_KEY = ""
    give(alice, 1000)
    give(mallory, 1000)
    upstream = make_upstream(tmp_path / "upstream")
    repository = make_repository(owner=alice, url=str(upstream), name="connected")
    values = {"name": "kept", "base_url": MODEL_URL}
    ours: dict[str, Any] = {
        "alice": alice,
        "mallory": mallory,
        "repository": repository,
        "spare": make_repository(owner=alice, name="spare"),
        "theirs": make_repository(owner=mallory, name="theirs"),
        "task": make_task(owner=alice, repository=repository),
        "access_key": access_keys.create(user=alice, name="ci")[0],
        "provider_key": provider_keys.add(user=alice, provider="openai", plain=PLAIN_KEY),
        "own_model": own.add(owner=alice, values=values),
    }
    ids = {name: str(row.pk) for name, row in ours.items()}
    more = {
        "upstream": str(upstream),
        "clerk_token": clerk_token,
        "refresh_token": tokens.begin(alice).refresh,
    }
    known = {identity.replace("-", ""): name for name, identity in ids.items()}
    return World(ids | more, known)


def filled(value: Any, ids: dict[str, str]) -> Any:
    """Put the ids of the world where a path or a body names a thing of it."""
    if isinstance(value, dict):
        return {name: filled(item, ids) for name, item in value.items()}
    return value.format(**ids) if isinstance(value, str) and value.startswith(("{", "/")) else value


def harmful(field: Any, ids: dict[str, str]) -> Any:
    """Return a value that the field would take, and that would harm."""
    if field.is_relation:
        owner = field.related_model is User
        return ids["mallory"] if owner else ids["theirs"]
    if field.choices:
        return list(field.choices)[-1][0]
    kinds: list[tuple[type[Any], Any]] = [
        (models.UUIDField, ids["mallory"]),
        (models.BooleanField, not field.get_default()),
        (models.DateTimeField, "2001-01-01T00:00:00Z"),
        (models.DateField, "2001-01-01"),
        (models.JSONField, ["harm"]),
        (models.IntegerField, 99),
        (models.DecimalField, "99"),
    ]
    return next((value for kind, value in kinds if isinstance(field, kind)), "harm")


def forbidden(takes: type[Any] | None, ids: dict[str, str]) -> dict[str, Any]:
    """Return every field of every table that the route does not take."""
    taken = set(takes().fields) - read_only(takes) if takes else set()
    found: dict[str, Any] = dict.fromkeys(MORE, "harm") | {
        "user": ids["mallory"],
        "owner": ids["mallory"],
    }
    for table in TABLES:
        for field in table._meta.concrete_fields:
            found[field.name] = found[field.attname] = harmful(field, ids)
    return {name: value for name, value in found.items() if name not in taken}


def read_only(takes: type[Any]) -> set[str]:
    return {name for name, field in takes().fields.items() if field.read_only}


def snapshot(known: dict[str, str]) -> list[str]:
    """Return every row of ours as a text: moments, secrets and new ids are nobody's choice."""
    rows = []
    for table in TABLES:
        numbers = {field.attname for field in table._meta.concrete_fields if is_number(field)}
        for row in table._base_manager.values():
            shown = {name: clean(name, row[name], numbers, known) for name in sorted(row)}
            rows.append(f"{table.__name__} {json.dumps(shown, default=str)}")
    return sorted(rows)


def is_number(field: Any) -> bool:
    """Tell whether the database counts the field up."""
    counted = field.target_field if field.is_relation else field
    return isinstance(counted, models.AutoField | models.BigAutoField)


def clean(name: str, value: Any, numbers: set[str], known: dict[str, str]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if name in numbers:
        return "counted"
    if SECRETS.fullmatch(name):
        return bool(value)
    if isinstance(value, datetime):
        return "a moment"
    if name.endswith(("_seconds", "duration_ms")):
        return "a while"
    if isinstance(value, date):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return UUID.sub(lambda found: known.get(found[0].replace("-", ""), "new"), text)


def undone(act: Callable[[], int], known: dict[str, str]) -> tuple[int, list[str]]:
    """Act, look at the database, and take everything back."""
    with transaction.atomic():
        status = act()
        seen = snapshot(known)
        transaction.set_rollback(True)
    return status, seen


def different(one: list[str], other: list[str]) -> list[str]:
    """Return the rows that are in one of two snapshots only."""
    return sorted((Counter(one) - Counter(other)) + (Counter(other) - Counter(one)))


def ask(route: Route, world: World, alice: User, more: dict[str, Any]) -> int:
    path = filled(route.path, world.ids)
    body = {**more, **filled(route.body, world.ids)}
    client = APIClient() if route.is_open else signed_in(alice)
    sent = body if PLAIN.match(path) else camelised(body)
    return int(getattr(client, route.method)(path, sent).status_code)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_fields_that_a_route_does_not_take_change_nothing(
    route: Route, world: World, alice: User
) -> None:
    harm = forbidden(route.takes, world.ids)
    assert len(harm) > 100
    plain = undone(lambda: ask(route, world, alice, {}), world.known)
    assert plain[0] == route.status
    harmed = undone(lambda: ask(route, world, alice, harm), world.known)
    assert harmed[0] == plain[0]
    assert different(harmed[1], plain[1]) == []


def test_a_change_by_a_field_that_is_taken_is_seen(world: World, alice: User) -> None:
    route = Route("put", "/api/v1/users/me", PROFILE, accounts.ProfileSerializer)
    plain = undone(lambda: ask(route, world, alice, {}), world.known)
    other = undone(lambda: ask(route, world, alice, {"email": "new@example.com"}), world.known)
    assert plain[0] == other[0] == 200
    assert plain[1] != other[1]


def test_a_harm_that_is_done_is_seen(world: World, alice: User, mallory: User) -> None:
    before = snapshot(world.known)
    account = User.objects.filter(pk=alice.pk)
    task = apps.get_model("tasks", "Task")
    harms: list[Callable[[], int]] = [
        lambda: account.update(role="admin"),
        lambda: account.update(is_staff=True),
        lambda: account.update(plan="pro"),
        lambda: account.update(concurrent_tasks=99),
        lambda: int(task.objects.update(owner=mallory)),
        lambda: int(task.objects.update(charged_microcredits=99)),
    ]
    for harm in harms:
        assert undone(harm, world.known)[1] != before
    assert undone(lambda: 0, world.known)[1] == before


NAMED = {re.sub(r"\{\w+\}", str(uuid.UUID(int=7)), route.path) for route in ROUTES}


@pytest.mark.parametrize("path", [path for path in API if path not in NAMED])
def test_the_other_routes_take_nothing_of_it_either(path: str, world: World, alice: User) -> None:
    harm = forbidden(None, world.ids)
    for method in UNSAFE:
        route = Route(method, path, {})
        plain = undone(lambda route=route: ask(route, world, alice, {}), world.known)  # type: ignore[misc]  # a default binds it
        harmed = undone(lambda route=route: ask(route, world, alice, harm), world.known)  # type: ignore[misc]  # a default binds it
        assert different(harmed[1], plain[1]) == [], method
