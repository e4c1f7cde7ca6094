"""The people and things of the isolation matrix.

Alice owns everything, once on a repository that others were let into and once on one of her own
alone. Whatever is hers holds a word that tells which of the two it is of.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db import transaction
from rest_framework.test import APIClient

from accounts import keys as access_keys
from accounts import tokens
from accounts.models import Role, User
from aimodels import keys as provider_keys
from aimodels import own
from aimodels.models import KeyUsage
from asynccoder.tests.github_server import FakeGithub
from billing import ledger
from conftest import make_user, signed_in
from repositories.models import Repository, RepositoryAccess
from repositories.tests.github_server import connect_account
from repositories.tests.projects import make_work, publish
from tasks.models import Task, TaskType
from tasks.tests.make import make_log, make_model, make_repository, make_task
from tasks.tests.story import completed_task
from tasks.tests.test_pages import make_store
from tasks.workspace import store_path

PEOPLE = ("anonymous", "stranger", "viewer", "guest", "partner", "owner", "admin")
"""A guest has the role of a user and may look at the shared repository, a partner may work on it;
the viewer may look at it too, and has the role that changes nothing."""
SHARED, PRIVATE, NOWHERE = "shared", "private", "nowhere"
WORDS = {SHARED: "hush-of-the-team", PRIVATE: "hush-of-her-own"}
TABLES = [
    table
    for app in ("accounts", "aimodels", "billing", "repositories", "tasks")
    for table in apps.get_app_config(app).get_models()
]
OUR_KEY = "sk-test-0123456789abcdefWXYZ"
MODEL_URL = "http://127.0.0.1:9/v1"


@dataclass
class World:
    """Who and what there is. ``ids`` are those of the things that were made, by their side."""

    folder: Path
    github: FakeGithub
    users: dict[str, User] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    clients: dict[str, APIClient] = field(default_factory=dict)
    refresh: str = ""
    """Alice's refresh token."""
    ids: dict[str, str] = field(default_factory=dict)
    _rows: Counter[str] = field(default_factory=Counter)

    @property
    def owner(self) -> User:
        return self.users["owner"]

    def client(self, person: str) -> APIClient:
        return self.clients.get(person) or APIClient()

    def words_in(self, body: bytes) -> str:
        """Return the initials of the sides whose things a body tells of."""
        names = {side: [word.encode()] for side, word in WORDS.items()}
        for side in names:
            if side in self.ids:
                names[side].append(self.ids[side].encode())
        return "".join(side[0] for side in names if any(name in body for name in names[side]))

    def make(self, thing: str, sides: tuple[str, ...]) -> None:
        """Make Alice's thing once for every side."""
        for side in sides if thing else ():
            self.ids[side] = str(THINGS[thing](self, side))
        self.ids[NOWHERE] = str(uuid.UUID(int=7))
        self._rows = rows()

    def undone(self, act: Callable[[], Any]) -> tuple[Any, list[str], list[str]]:
        """Act and take it back; return the answer, the rows that went and those that came."""
        with transaction.atomic():
            answer = act()
            now = rows()
            transaction.set_rollback(True)
        return answer, sorted(self._rows - now), sorted(now - self._rows)


def rows() -> Counter[str]:
    """Return every row of ours as a text."""
    return Counter(
        f"{table.__name__} {row}"
        for table in TABLES
        for row in table._base_manager.order_by().values_list()
    )


def build(folder: Path, github: FakeGithub) -> World:
    """Make everybody, and Alice's two repositories with who was let into them."""
    world = World(folder, github)
    roles: dict[str, dict[str, Any]] = {
        "viewer": {"role": Role.VIEWER},
        "admin": {"role": Role.ADMIN, "is_staff": True, "is_superuser": True},
    }
    world.users = {name: make_user(name, **roles.get(name, {})) for name in PEOPLE[1:]}
    for side, word in WORDS.items():
        world.repositories[side] = make_repository(owner=world.owner, name=word)
    levels = dict.fromkeys(("viewer", "guest"), RepositoryAccess.Level.READ)
    levels["partner"] = RepositoryAccess.Level.WRITE
    for name, level in levels.items():
        RepositoryAccess.objects.create(
            repository=world.repositories[SHARED], user=world.users[name], level=level
        )
    for name, user in world.users.items():
        ledger.grant(user_id=user.pk, microcredits=10**9, reference=f"isolation:{name}")
        world.clients[name] = signed_in(user)
    world.refresh = tokens.begin(world.owner).refresh
    make_model(name="engine", display_name="Does everything")
    return world


# --- Things ---------------------------------------------------------------------------------------
def _repository(world: World, side: str) -> uuid.UUID:
    return world.repositories[side].pk


def _project(world: World, side: str) -> uuid.UUID:
    """A hosted repository in which something was built."""
    repository = world.repositories[side]
    kind = Repository.Kind.HOSTED
    Repository.objects.filter(pk=repository.pk).update(kind=kind, url="", is_private=True)
    repository.refresh_from_db()
    folder = world.folder / side
    folder.mkdir()
    publish(repository, make_work(repository, folder, {"a.txt": f"{WORDS[side]}\n"}))
    return repository.pk


def _finished(world: World, side: str) -> uuid.UUID:
    """A task with everything that one can leave."""
    word = WORDS[side]
    values = {"title": word, "prompt": word, "repository": world.repositories[side]}
    task = completed_task(world.owner, **values)
    make_log(task, message=word)
    base, head = make_store(store_path(task.pk), world.folder / f"work-{side}")
    Task.objects.filter(pk=task.pk).update(base_commit=base, head_commit=head)
    return task.pk


def _waiting(world: World, side: str, type_: str = TaskType.DEBUG) -> uuid.UUID:
    word = WORDS[side]
    repository = world.repositories[side]
    return make_task(
        owner=world.owner, type=type_, title=word, prompt=word, repository=repository
    ).pk


def _access_key(world: World, side: str) -> uuid.UUID:
    return access_keys.create(user=world.owner, name=WORDS[side])[0].pk


def _provider_key(world: World, side: str) -> uuid.UUID:
    key = provider_keys.add(user=world.owner, provider="openai", plain=OUR_KEY, name=WORDS[side])
    KeyUsage.objects.create(
        user=world.owner, key_id=key.pk, masked=key.masked, provider="openai",
        model_name=WORDS[side], reference="trial",
    )  # fmt: skip
    return key.pk


def _model(world: World, side: str) -> uuid.UUID:
    return own.add(owner=world.owner, values={"name": WORDS[side], "base_url": MODEL_URL}).pk


def _entry(world: World, side: str) -> str:
    ledger.grant(
        user_id=world.owner.pk, microcredits=7, reference=WORDS[side], description=WORDS[side]
    )
    return WORDS[side]


def _github(world: World, side: str) -> str:
    """Her GitHub account, which shows one repository."""
    connect_account(world.owner, world.github)
    world.github.add_repository(f"octo/{WORDS[side]}")
    return WORDS[side]


THINGS: dict[str, Callable[[World, str], uuid.UUID | str]] = {
    "repository": _repository,
    "project": _project,
    "finished": _finished,
    "waiting": _waiting,
    "build": lambda world, side: _waiting(world, side, TaskType.BUILD),
    "analysis": lambda world, side: _waiting(world, side, TaskType.ANALYSIS),
    "access key": _access_key,
    "provider key": _provider_key,
    "model": _model,
    "entry": _entry,
    "github": _github,
}
OF_ONE: dict[str, frozenset[str]] = {
    "access key": frozenset({"owner"}),
    "provider key": frozenset({"owner"}),
    "model": frozenset({"owner", "admin"}),
    "entry": frozenset({"owner"}),
    "github": frozenset({"owner"}),
}
"""Things that are on no repository, and who sees them."""
INSIDERS = {
    SHARED: frozenset({"viewer", "guest", "partner", "owner", "admin"}),
    PRIVATE: frozenset({"owner", "admin"}),
    NOWHERE: frozenset[str](),
}


def insiders(thing: str, side: str) -> frozenset[str]:
    """Return who may know that the thing of this side is there."""
    return OF_ONE.get(thing, INSIDERS[side]) if side != NOWHERE else INSIDERS[NOWHERE]


def sides(thing: str) -> tuple[str, ...]:
    return (PRIVATE,) if thing in OF_ONE else (SHARED, PRIVATE)


# --- What a row says ------------------------------------------------------------------------------
OWN = "401 200 200 200 200 200 200"
"""Everybody who is signed in, of their own account."""


@dataclass(frozen=True)
class Row:
    operation: str
    thing: str = ""
    gets: str = OWN
    body: dict[str, Any] | None = None
    shows: str = ""
    """Of a list: whose things it tells each of them about."""
    query: str = ""

    @property
    def method(self) -> str:
        return self.operation.partition(" ")[0].lower()

    @property
    def path(self) -> str:
        return self.operation.partition(" ")[2]

    @property
    def sides(self) -> tuple[str, ...]:
        return sides(self.thing)

    @property
    def names_it(self) -> bool:
        """Tell whether the thing's id is in the request."""
        return "id}" in f"{self.operation} {self.query} {self.body}"

    @property
    def hides(self) -> bool:
        """Tell whether a stranger may not learn that the thing is there: all but S2's work."""
        return self._all["stranger"] != 403

    @property
    def is_open(self) -> bool:
        """Tell whether the credential is in the body, or none is needed."""
        return self._all["anonymous"] < 400

    @property
    def _all(self) -> dict[str, int]:
        return dict(zip(PEOPLE, map(int, self.gets.split()), strict=True))

    def expected(self, person: str, side: str) -> int:
        """Return the status; who is not to know of the thing gets a stranger's."""
        own, strangers = self._all[person], self._all["stranger"]
        if not self.names_it or person in insiders(self.thing, side) or own == 401:
            return own
        # The role of a viewer is looked at before the thing.
        if person == "viewer" and self.method != "get":
            return own
        return 404 if side == NOWHERE and not self.hides else strangers

    def shown(self, person: str, side: str) -> str:
        """Return the initials of the sides that a list tells this person about."""
        words = dict(zip(PEOPLE, self.shows.split(), strict=True))[person].strip("-")
        return words if not self.names_it else words if side[0] in words else ""
