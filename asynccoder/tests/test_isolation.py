"""Who gets what: every operation of the OpenAPI document, asked by everybody.

A row says which status each of the seven people gets for a thing of Alice's that the others of a
repository may know (``{id}`` is the thing's). From that follows what is asked beside it: the same
for a thing that is hers alone, and for one that does not exist. An operation without a row fails,
and so does a row without an operation.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest

from accounts.models import User
from asynccoder.api import document
from asynccoder.lib.errors import NotAllowed
from asynccoder.tests import isolation
from asynccoder.tests.github_server import FakeGithub
from asynccoder.tests.isolation import NOWHERE, PEOPLE, PRIVATE, Row, World, insiders
from repositories.models import RepositoryQuerySet
from repositories.tests.make import make_upstream
from tasks import streams
from tasks.api.views import TaskViewSet
from tasks.models import Task, TaskQuerySet

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
SECRET = "webhook-secret-canary"
WEBHOOK = "/api/webhooks/github"
SUMS = ["/api/v1/users/credits", "/api/v1/users/usage", "/api/v1/billing/usage"]

# For: anonymous, stranger, viewer, guest, partner, owner, admin.
ALL = "200 200 200 200 200 200 200"
LOOK = "401 404 200 200 200 200 200"
KEEP = "401 404 403 403 403 200 200"
MINE = "401 404 404 404 404 200 404"
"""Nobody manages another's keys, an administrator neither."""
WORK = "401 403 200 200 200 200 200"
"""S2 says 403 of a build or analysis that exists and is another's."""
START = "401 404 403 403 201 201 201"
"""A viewer and a guest may know the repository, and start nothing on it."""
# Whose words a list holds: (s)hared ones, (p)rivate ones.
TEAM = "- - s s s sp sp"
HERS = "- - - - - p -"


TASK = {"type": "debug", "prompt": "Fix it", "model": "builtin"}
ON_IT = TASK | {"repository_id": "{id}"}
EXECUTION = {"task_type": "debug", "prompt": "Fix it", "model": "builtin", "repository_id": "{id}"}
MODEL = {"name": "mine", "base_url": isolation.MODEL_URL}
PROFILE = {"display_name": "New"}

ROWS = [
    # --- Accounts ---------------------------------------------------------------------------------
    Row("POST /api/auth/register", gets="201 201 201 201 201 201 201", body={"email": "ann@example.com", "password": PASSWORD}),
    Row("POST /api/v1/auth/register", gets="201 201 201 201 201 201 201", body={"email": "ann@example.com", "password": PASSWORD}),
    Row("POST /api/auth/login", gets=ALL, body={"email": "owner", "password": PASSWORD}),
    Row("POST /api/v1/auth/login", gets=ALL, body={"email": "owner", "password": PASSWORD}),
    Row("POST /auth/login", gets=ALL, body={"username": "owner", "password": PASSWORD}),
    Row("POST /api/auth/refresh", gets=ALL, body={"refreshToken": "{refresh}"}),
    Row("POST /api/v1/auth/refresh", gets=ALL, body={"refresh_token": "{refresh}"}),
    Row("POST /api/auth/logout"),
    Row("POST /api/v1/auth/logout"),
    Row("GET /api/users/me"),
    Row("PUT /api/users/me", body={"displayName": "New"}),
    Row("GET /api/v1/users/me"),
    Row("PUT /api/v1/users/me", body=PROFILE),
    Row("GET /api/v1/users/profile"),
    Row("PUT /api/v1/users/profile", body=PROFILE),
    # Nobody has set Clerk here; whose account it is decided by the token, as for GitHub by the code.
    Row("POST /api/v1/users/clerk", gets="401 503 503 503 503 503 503", body={"clerk_token": "x"}),
    Row("GET /api/v1/access-keys", "access key", shows=HERS),
    Row("POST /api/v1/access-keys", body={"name": "ci"}, gets="401 201 201 201 201 201 201"),
    Row("DELETE /api/v1/access-keys/{key_id}", "access key", MINE),
    Row("POST /api/auth/github/connect", gets="401 200 403 200 200 200 200", body={"code": "{code}"}),
    Row("GET /api/v1/users/github", "github", "401 200 403 200 200 200 200"),
    Row("POST /api/v1/users/github", gets="401 200 403 200 200 200 200", body={"code": "{code}"}),
    Row("DELETE /api/v1/users/github", "github", "401 409 403 409 409 200 409"),
    # --- Models and the keys to them ----------------------------------------------------------------
    Row("GET /api/ai-models", "model", shows="- - - - - p p"),
    Row("GET /api/v1/models", "model", shows="- - - - - p p"),
    Row("POST /api/v1/models", "model", "401 201 403 201 201 201 201", MODEL),
    Row("POST /api/v1/models/test", "model", "401 404 403 404 404 200 404", {"model_id": "{id}"}),
    Row("GET /api/v1/models/{id}", "model", "401 404 404 404 404 200 200"),
    Row("PUT /api/v1/models/{id}", "model", "401 404 403 404 404 200 403", {"display_name": "New"}),
    Row("DELETE /api/v1/models/{id}", "model", "401 404 403 404 404 204 403"),
    Row("GET /api/v1/api-keys", "provider key", shows=HERS),
    Row("POST /api/v1/api-keys", gets="401 201 403 201 201 201 201", body={"provider": "openai", "key": isolation.OUR_KEY}),
    Row("GET /api/v1/api-keys/providers"),
    Row("GET /api/v1/api-keys/usage", "provider key", shows=HERS),
    Row("GET /api/v1/api-keys/usage", "provider key", shows=HERS, query="key_id={id}"),
    Row("GET /api/v1/api-keys/{id}", "provider key", MINE),
    Row("PUT /api/v1/api-keys/{id}", "provider key", "401 404 403 404 404 200 404", {"name": "New"}),
    Row("DELETE /api/v1/api-keys/{id}", "provider key", "401 404 403 404 404 204 404"),
    # --- Money --------------------------------------------------------------------------------------
    Row("GET /api/users/me/credits/transactions", "entry", shows=HERS),
    Row("GET /api/v1/users/credits/transactions", "entry", shows=HERS),
    Row("GET /api/v1/users/credits", "entry"),
    Row("GET /api/v1/users/usage", "finished"),
    Row("GET /api/v1/billing/plans"),
    Row("GET /api/v1/billing/usage", "entry"),
    Row("POST /api/v1/billing/subscribe", gets="401 503 403 503 503 503 503", body={"plan": "pro"}),
    # --- Repositories -------------------------------------------------------------------------------
    Row("GET /api/repositories", "repository", shows=TEAM),
    Row("GET /api/v1/repositories", "repository", shows=TEAM),
    Row("GET /api/v1/repositories", "repository", shows=TEAM, query="search=hush"),
    Row("POST /api/v1/repositories", gets="401 201 403 201 201 201 201", body={"url": "{upstream}"}),
    Row("POST /api/repositories/sync", "github", "401 409 403 409 409 200 409", {}),
    Row("POST /api/v1/repositories/sync", "github", "401 409 403 409 409 200 409", {}),
    Row("GET /api/v1/repositories/{id}", "repository", LOOK),
    Row("PUT /api/v1/repositories/{id}", "repository", KEEP, {"setup_command": "make"}),
    Row("PATCH /api/v1/repositories/{id}", "repository", KEEP, {"setup_command": "make"}),
    Row("DELETE /api/v1/repositories/{id}", "repository", "401 404 403 403 403 204 204"),
    Row("GET /api/repositories/{id}/branches", "project", LOOK),
    Row("GET /api/v1/repositories/{id}/branches", "project", LOOK),
    Row("GET /api/v1/repositories/{id}/bundle", "project", LOOK),
    Row("GET /api/v1/repositories/{id}/zip", "project", LOOK),
    # --- Tasks --------------------------------------------------------------------------------------
    Row("GET /api/tasks", "waiting", shows=TEAM),
    Row("GET /api/v1/tasks", "waiting", shows=TEAM),
    Row("GET /api/tasks", "repository", query="repositoryId={id}"),
    Row("GET /api/v1/tasks", "repository", query="repository_id={id}"),
    Row("POST /api/tasks", "repository", START, {"type": "debug", "prompt": "Fix it", "repositoryId": "{id}"}),
    Row("POST /api/v1/tasks", "repository", START, ON_IT),
    Row("POST /api/v1/tasks", "model", "401 404 403 404 404 201 403", {"type": "implement", "prompt": "Make it", "ai_model_id": "{id}"}),
    Row("GET /api/tasks/{id}", "finished", LOOK),
    Row("GET /api/v1/tasks/{id}", "finished", LOOK),
    Row("PUT /api/v1/tasks/{id}", "waiting", KEEP, {"title": "New"}),
    Row("DELETE /api/v1/tasks/{id}", "waiting", KEEP),
    Row("POST /api/v1/tasks/{id}/cancel", "waiting", KEEP, {}),
    Row("PUT /api/tasks/{id}/cancel", "waiting", KEEP, {}),
    Row("GET /api/v1/tasks/{id}/log", "finished", LOOK),
    Row("GET /api/v1/tasks/{id}/results", "finished", LOOK),
    Row("GET /api/v1/tasks/{id}/artifacts", "finished", LOOK),
    Row("GET /api/v1/tasks/{id}/artifacts/{artifact}", "finished", LOOK),
    Row("GET /api/v1/tasks/{id}/patch", "finished", LOOK),
    Row("GET /api/v1/tasks/{id}/bundle", "finished", LOOK),
    Row("GET /api/v1/tasks/{id}/stream", "finished", LOOK),
    Row("POST /api/v1/execute", "repository", START.replace("201", "202"), EXECUTION),
    Row("POST /api/v1/execute/stream", "repository", START.replace("201", "200"), EXECUTION),
    Row("GET /api/build", "build", shows=TEAM),
    Row("POST /api/build", gets="401 202 403 202 202 202 202", body={"project_name": "mine", "goal": "A thing", "model": "engine"}),
    Row("GET /api/build/{id}", "build", WORK),
    Row("DELETE /api/build/{id}", "build", "401 403 403 403 403 200 200"),
    Row("GET /api/analysis", "analysis", shows=TEAM),
    Row("POST /api/analysis", "repository", START.replace("201", "202"), {"repository_id": "{id}"}),
    Row("GET /api/analysis/{id}", "analysis", WORK),
    # --- Operations ---------------------------------------------------------------------------------
    Row("POST /api/webhooks/github", gets=ALL, body={}),
    Row("GET /health", gets=ALL),
    Row("GET /ready", gets=ALL),
    Row("GET /metrics", gets="401 403 403 403 403 403 200"),
    Row("GET /api/health", gets=ALL),
    Row("GET /api/health/live", gets=ALL),
    Row("GET /api/health/ready", gets=ALL),
    Row("GET /api/health/status", gets=ALL),
    Row("GET /api/v1/health/detailed", gets=ALL.replace("200", "503")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the requests of WSGI the slot that the ASGI server gives."""
    slots: list[streams.Slot] = []

    def scope(_: WSGIRequest) -> dict[str, Any]:
        slots.append(streams.Slot())
        return {streams.KEY: slots[-1]}

    monkeypatch.setattr(WSGIRequest, "scope", property(scope), raising=False)
    yield
    for slot in slots:
        slot.free()


@pytest.fixture
def world(settings: Any, tmp_path: Path, github: FakeGithub) -> World:
    settings.VAR_DIR.mkdir()
    settings.LOCAL_REPOSITORIES = [str(tmp_path)]
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:9"]
    settings.STRIPE_SECRET_KEY = ""
    settings.METRICS_TOKEN = "a token of the operator"
    settings.GITHUB_WEBHOOK_SECRET = SECRET
    return isolation.build(tmp_path, github)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]
    gone: list[str]
    """Rows of the database that were there before and are not, or not as they were."""
    come: list[str]

    def without(self, pk: str) -> tuple[int, bytes, dict[str, str]]:
        """Return what a stranger may not see a difference in."""
        body = re.sub(rb'"timestamp":"[^"]+"', b"", self.body.replace(pk.encode(), b""))
        headers = {name: text for name, text in self.headers.items() if name != "X-Request-ID"}
        return self.status, body, headers


def filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: filled(item, names) for name, item in value.items()}
    return value.format(**names) if isinstance(value, str) else value


def ask(row: Row, world: World, person: str, side: str) -> Answer:
    """Send the row's request as somebody, about the thing of a side; take back what it did."""
    pk = world.ids.get(side, "")
    names = {"id": pk, "key_id": pk, "artifact": "patch", "upstream": str(world.folder / "up")}
    names["code"] = world.github.add_user(f"of-{person}", user_id=2000 + PEOPLE.index(person))
    names["refresh"] = world.refresh
    path = row.path.format(**names) + (f"?{row.query.format(**names)}" if row.query else "")
    client, headers = world.client(person), {}
    if row.path == WEBHOOK:
        seal = hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": f"sha256={seal}", "X-GitHub-Event": "ping"}
        headers["X-GitHub-Delivery"] = person

    def send() -> Any:
        return getattr(client, row.method)(path, filled(row.body, names), headers=headers)

    answer, gone, come = (send(), [], []) if row.method == "get" else world.undone(send)
    return Answer(answer.status_code, answer.getvalue(), dict(answer.items()), gone, come)


def assert_isolated(row: Row, world: World) -> None:
    """Ask as everybody about every side, and compare with what the row says."""
    if row.body and "{upstream}" in row.body.values():
        make_upstream(world.folder / "up")
    world.make(row.thing, row.sides)
    sides = (NOWHERE, *row.sides) if row.names_it else (PRIVATE,)
    for person in PEOPLE:
        answers = {side: ask(row, world, person, side) for side in sides}
        for side, answer in answers.items():
            asked = (person, side)
            assert answer.status == row.expected(person, side), (asked, answer.body[:300])
            told = world.words_in(answer.body)
            if row.shows:
                assert told == row.shown(person, side), asked
            else:
                allowed = {one[0] for one in row.sides if person in insiders(row.thing, one)}
                assert set(told) <= allowed, asked
            if answer.status >= 400:
                assert (answer.gone, answer.come) == ([], []), asked
            if row.names_it and person not in insiders(row.thing, side) and row.hides:
                unknown = answers[NOWHERE].without(world.ids[NOWHERE])
                assert answer.without(world.ids[side]) == unknown, asked
            if person not in ("owner", "admin") and not row.is_open:
                hers = {str(world.owner.pk), *world.ids.values()}
                assert [one for one in answer.gone if any(pk in one for pk in hers)] == [], asked


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.operation}?{row.query}".strip("?"))
def test_everybody_gets_what_the_row_says(row: Row, world: World) -> None:
    assert_isolated(row, world)


def test_every_operation_has_a_row_and_every_row_an_operation() -> None:
    operations = {
        f"{method.upper()} {path}"
        for path, item in document.document()["paths"].items()
        for method in item
    }
    assert {row.operation for row in ROWS} == operations


@pytest.mark.parametrize("path", SUMS)
def test_a_sum_holds_what_is_ones_own(path: str, world: World) -> None:
    def shown() -> dict[str, bytes]:
        return {name: world.client(name).get(path).content for name in PEOPLE[1:]}

    before = shown()
    world.make("entry", (PRIVATE,))
    world.make("finished", (PRIVATE,))
    now = shown()
    assert {name for name in now if now[name] != before[name]} == {"owner"}


def row_of(operation: str) -> Row:
    return next(row for row in ROWS if row.operation == operation)


CONTROLS: dict[str, tuple[str, Any, str, Any]] = {
    "sees all": (
        "GET /api/v1/tasks/{id}", TaskQuerySet, "visible_to", lambda rows, _: rows,
    ),
    "lists all": (
        "GET /api/v1/repositories", RepositoryQuerySet, "visible_to", lambda rows, _: rows,
    ),
    "changes another's": (
        "DELETE /api/v1/tasks/{id}", TaskQuerySet, "visible_to", lambda rows, _: rows,
    ),
    "says why not": (
        "GET /api/v1/tasks/{id}/patch", TaskViewSet, "_task",
        lambda view, pk, *_: Task.objects.get(pk=pk),
    ),
}  # fmt: skip


@pytest.mark.parametrize("leak", CONTROLS)
def test_a_leak_is_found(leak: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the matrix."""
    operation, owner, name, broken = CONTROLS[leak]
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((AssertionError, Task.DoesNotExist)):
        assert_isolated(row_of(operation), world)


def test_a_refusal_that_writes_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel_task(task: Task, *, by: User) -> None:
        Task.objects.filter(pk=task.pk).update(title="changed")
        raise NotAllowed

    monkeypatch.setattr("tasks.lifecycle.cancel_task", cancel_task)
    with pytest.raises(AssertionError, match="'guest', 'shared'"):
        assert_isolated(row_of("POST /api/v1/tasks/{id}/cancel"), world)
