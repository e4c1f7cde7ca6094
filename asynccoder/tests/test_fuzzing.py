"""Schemathesis against the document: whatever is sent, the answer is one that the document names.

Every operation is asked as the owner of a real thing: each parameter and field at its bounds, other
methods, no credential, then 50 requests drawn by chance, half of them such as the document forbids.
``SCHEMATHESIS_EXAMPLES=1000 .venv/bin/pytest asynccoder/tests/test_fuzzing.py`` draws more.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import schemathesis
from django.core import signals
from django.core.handlers.wsgi import WSGIHandler
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from accounts import tokens
from asynccoder.api import document
from asynccoder.tests.isolation import PRIVATE, World
from asynccoder.tests.test_isolation import (  # noqa: F401 - a fixture for every test
    ROWS,
    _streams,
    world,
)

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(3600)]
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "50"))
BASE = "http://localhost"
THINGS: dict[str, str] = {}
for _row in ROWS:
    THINGS.setdefault(_row.operation, _row.thing)

EITHER = "It takes one of two fields, which the document says in words."
TASK = "What a type of task needs, and which files and branches there are, is said in words."
ADDRESS = "The address must lead somewhere that is neither inside nor unknown."
PASSWORD = "A password must be a good one, and a name free."
WEB = "An address of the web is narrower than every URI."
COMMAND = "A command is one printable line, and a host a name."
AWAY = "A repository that cannot be reached or read says so in words."
REFUSED: dict[str, str] = {
    "POST /api/analysis": EITHER,
    "POST /api/auth/github/connect": "The state must be one that was issued.",
    "POST /api/auth/login": EITHER,
    "POST /api/auth/register": PASSWORD,
    "POST /api/build": TASK,
    "POST /api/tasks": TASK,
    "POST /api/v1/access-keys": "A key ends in the future.",
    "POST /api/v1/api-keys": "A key is one line of plain characters.",
    "POST /api/v1/auth/login": EITHER,
    "POST /api/v1/auth/register": PASSWORD,
    "POST /api/v1/billing/subscribe": "The plan must be one of the list.",
    "POST /api/v1/execute": TASK,
    "POST /api/v1/execute/stream": TASK,
    "POST /api/v1/models": ADDRESS,
    "POST /api/v1/models/test": EITHER,
    "POST /api/v1/repositories": ADDRESS,
    "POST /api/v1/tasks": TASK,
    "POST /api/v1/users/github": "The state must be one that was issued.",
    "POST /auth/login": EITHER,
    "PUT /api/users/me": WEB,
    "PUT /api/v1/api-keys/{id}": "A key is one line of plain characters.",
    "PUT /api/v1/models/{id}": ADDRESS,
    "PUT /api/v1/repositories/{id}": COMMAND,
    "PUT /api/v1/users/me": WEB,
    "PUT /api/v1/users/profile": WEB,
    "PATCH /api/v1/repositories/{id}": COMMAND,
    "GET /api/repositories/{id}/branches": AWAY,
    "GET /api/v1/repositories/{id}/branches": AWAY,
    "GET /api/v1/repositories/{id}/bundle": AWAY,
    "GET /api/v1/repositories/{id}/zip": AWAY,
    "GET /api/v1/users/usage": "The first day comes before the last one, within a year.",
}
"""Where what the document allows may be refused (positive_data_acceptance), and why."""
NO_CLERK = "Nobody has set Clerk up here, and it says so."
UNAVAILABLE: dict[str, str] = {
    "GET /api/v1/health/detailed": "No worker is alive here, and it says so.",
    "POST /api/auth/login": NO_CLERK,
    "POST /api/v1/auth/login": NO_CLERK,
    "POST /api/v1/users/clerk": NO_CLERK,
    "POST /auth/login": NO_CLERK,
    "POST /api/v1/billing/subscribe": "Nobody has set Stripe up here, and it says so.",
}
"""Where 503 is the right answer here (not_a_server_error); 500 never is."""

SETTINGS: dict[str, Any] = {
    "generation": {
        "max-examples": EXAMPLES,
        "deterministic": EXAMPLES <= 50,
        "database": "none",
        "mode": "all",
        "with-security-parameters": False,
        # No column and no command takes it: it is refused everywhere, which other tests show.
        "allow-x00": False,
    },
    "suppress-health-check": ["all"],
}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer a request whole, and close what was sent."""
    answer = WSGIHandler()(environ, start_response)
    try:
        return [b"".join(answer)]
    finally:
        answer.close()


def load(whole: dict[str, Any]) -> Any:
    # Schemathesis writes into what it is given, and the process has one document.
    own = copy.deepcopy(whole)
    schema = schemathesis.openapi.from_dict(own, config=schemathesis.Config.from_dict(SETTINGS))
    schema.app = application
    return schema


schema = load(document.document())


@pytest.fixture(autouse=True)
def _one_connection() -> Iterator[None]:
    """Keep the test's connection between requests, as Django's own test client does."""
    pairs = [signals.request_started, signals.request_finished]
    for signal in pairs:
        signal.disconnect(close_old_connections)
    yield
    for signal in pairs:
        signal.connect(close_old_connections)


class Asker:
    """Alice with one of her things, whose token is sent with every request."""

    def __init__(self, alices: World) -> None:
        self.world = alices
        token = tokens.begin(alices.owner).access
        self.headers = {"Authorization": f"Bearer {token}"}
        self.guarded: set[str] = set()

    def ask(self, case: Any) -> None:
        """Send one request, check its answer, and take back what it did."""
        operation = case.operation.label
        if not self.world.ids:
            self.world.make(THINGS[operation], (PRIVATE,))
        if not case.meta.is_negative_at(ParameterLocation.PATH):
            for name in case.path_parameters or {}:
                pk = self.world.ids[PRIVATE]
                case.path_parameters[name] = "patch" if name == "artifact" else pk
        self.prepare(case)
        with transaction.atomic():
            try:
                answer = case.call(headers=self.headers, base_url=BASE)
                self.check(case, answer)
            finally:
                transaction.set_rollback(True)

    def check(self, case: Any, answer: Any, **more: Any) -> None:
        """Check an answer in every way but those that are excepted for its operation."""
        operation = case.operation.label
        assert answer.status_code != 500, case.as_curl_command()
        excluded: list[Any] = [positive_data_acceptance] if operation in REFUSED else []
        excluded += [not_a_server_error] if operation in UNAVAILABLE else []
        # Once an operation is enough, and costs several requests.
        excluded += [ignored_auth] if operation in self.guarded else []
        case.validate_response(answer, headers=self.headers, excluded_checks=excluded, **more)
        if answer.status_code < 300:
            self.guarded.add(operation)

    def prepare(self, case: Any) -> None:
        """Let a request wait for nothing, and name what there is where a body is as documented."""
        if "wait" in (case.query or {}):
            case.query["wait"] = 0
        if case.meta.generation.mode.is_positive and isinstance(case.body, dict):
            pk = str(self.world.repositories[PRIVATE].pk)
            real = {"repository_id": pk, "repositoryId": pk, "model": "engine"}
            case.body.update({name: real[name] for name in real.keys() & case.body.keys()})


@pytest.fixture
def asker(world: World) -> Asker:  # noqa: F811 - the fixture of the matrix
    return Asker(world)


@schema.parametrize()  # type: ignore[untyped-decorator] # theirs
def test_every_answer_is_a_documented_one(case: Any, asker: Asker) -> None:
    asker.ask(case)


def test_what_is_made_is_there_and_what_is_removed_is_not(asker: Asker) -> None:
    """Follow the document from what makes a thing to what shows, changes and removes it."""

    class Session(schema.as_state_machine()):  # type: ignore[misc] # made from the document
        def setup(self) -> None:
            self.undone = transaction.atomic()
            self.undone.__enter__()

        def teardown(self) -> None:
            transaction.set_rollback(True)
            self.undone.__exit__(None, None, None)
            super().teardown()

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": asker.headers, "base_url": BASE}

        def before_call(self, case: Any) -> None:
            asker.prepare(case)

        def validate_response(self, response: Any, case: Any, *_: Any, **__: Any) -> None:
            asker.check(case, response, recorder=self.recorder)

    Session.run(
        settings=settings(
            max_examples=max(EXAMPLES // 4, 1),
            stateful_step_count=8,
            deadline=None,
            database=None,
            derandomize=EXAMPLES <= 50,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
    )


def test_what_is_excepted_is_there() -> None:
    assert (REFUSED.keys() | UNAVAILABLE.keys()) <= THINGS.keys()


def test_the_fuzzer_finds_an_answer_that_is_not_documented(
    asker: Asker,
) -> None:
    """The control of the test above."""
    whole = copy.deepcopy(document.document())
    whole["paths"]["/api/v1/users/me"]["get"]["responses"] = {"418": {"description": "No."}}
    me = load(whole)["/api/v1/users/me"]["get"]

    @given(case=me.as_strategy())
    @settings(max_examples=1, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        asker.ask(case)

    with pytest.raises(FailureGroup) as caught:
        ask()
    assert "UndefinedStatusCode" in repr(caught.value.exceptions)
