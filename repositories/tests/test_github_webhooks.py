"""A delivery is believed for its signature alone, stored once, and worked on once."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import LazySettings
from django.contrib.admin import site
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from asynccoder.tests.github_server import TOKEN, FakeGithub
from repositories import connect, git, sync, webhooks
from repositories.errors import SignatureBad
from repositories.models import PullRequest, Repository, RepositoryWebhook, WebhookDelivery
from repositories.tests.github_server import connect_account, serve_git
from repositories.tests.make import commit_upstream, plain_git
from repositories.tests.rows import make_repository

PATH = "/api/webhooks/github"
SECRET = "webhook-secret-canary"
State = WebhookDelivery.State
rung: list[uuid.UUID] = []


def note_ring(delivery_id: uuid.UUID) -> None:
    rung.append(delivery_id)


@pytest.fixture(autouse=True)
def _hooks(settings: LazySettings) -> None:
    rung.clear()
    settings.GITHUB_WEBHOOK_SECRET = SECRET
    here = "repositories.tests.test_github_webhooks.note_ring"
    settings.UPCALLS = settings.UPCALLS | {"webhook_stored": here}


def signature(body: bytes, secret: str = SECRET) -> str:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def payload(event: str = "push", **values: Any) -> dict[str, Any]:
    repository = {"id": 5000, "full_name": "octo/app"}
    rest: dict[str, dict[str, Any]] = {
        "push": {"ref": "refs/heads/main", "after": "a" * 40},
        "ping": {"zen": "Keep it.", "hook": {"id": 7, "events": ["push"], "active": True}},
    }
    return {"repository": repository, **rest.get(event, {}), **values}


def deliver(
    body: bytes | dict[str, Any], event: str = "push", *, delivery: str = "", **headers: str
) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-GitHub-Hook-ID": "7",
        "X-Hub-Signature-256": signature(raw),
    } | headers
    kind = given.pop("Content-Type", "application/json")
    return Client().generic("POST", PATH, raw, content_type=kind, headers=given)


def pull(state: str, minute: int, /, **values: Any) -> dict[str, Any]:
    described = {
        "number": 3,
        "state": "open" if state == "open" else "closed",
        "merged": state == "merged",
        "title": f"Title at {minute}",
        "updated_at": f"2026-03-01T10:{minute:02}:00Z",
    }
    return payload("pull_request", action="edited", pull_request=described | values)


def make_pull_request(repository: Repository) -> PullRequest:
    made: PullRequest = PullRequest.objects.create(
        repository=repository,
        number=3,
        url="https://github.com/octo/app/pull/3",
        title="First",
        head_branch="asynccoder/x",
        base_branch="main",
        described_at="2026-03-01T10:00:00Z",
    )
    return made


def test_a_signed_delivery_is_stored_and_rung_for_after_the_commit(
    db: None, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = deliver(payload())
        assert rung == []
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "data": {"message": "Webhook processed successfully"},
    }
    row = WebhookDelivery.objects.get()
    assert rung == [row.pk]
    assert (row.event, row.github_id, row.full_name) == ("push", 5000, "octo/app")
    assert row.data == {"ref": "refs/heads/main", "after": "a" * 40}


def mutations(count: int) -> Iterator[tuple[bytes, str]]:
    """Give a signed body and its signature with one bit flipped in either."""
    body = json.dumps(payload()).encode()
    signed, dice = signature(body).encode(), random.Random(4)
    for number in range(count):
        changed, header = bytearray(body), bytearray(signed)
        target = changed if number % 2 else header
        # A header travels as text: its bits are flipped below the sign bit.
        target[dice.randrange(len(target))] ^= 1 << dice.randrange(8 if number % 2 else 7)
        yield bytes(changed), header.decode("latin-1")


def test_of_flipped_bits_none_is_believed(db: None) -> None:
    for body, header in mutations(300):
        assert deliver(body, **{"X-Hub-Signature-256": header}).status_code == 401
    assert not WebhookDelivery.objects.exists()
    assert deliver(json.dumps(payload()).encode()).status_code == 200
    assert WebhookDelivery.objects.count() == 1


def test_of_10_000_flipped_bits_none_is_proven() -> None:
    for body, header in mutations(10_000):
        with pytest.raises(SignatureBad):
            webhooks.prove(webhooks.Given(body, header, "push", "id", ""))
    body = json.dumps(payload()).encode()
    webhooks.prove(webhooks.Given(body, signature(body), "push", "id", ""))


@pytest.mark.parametrize(
    "given",
    [
        "",
        "sha256=",
        "sha1=" + "0" * 40,
        signature(b"another"),
        signature(json.dumps(payload()).encode(), "another secret"),
        signature(json.dumps(payload()).encode(), ""),
        signature(json.dumps(payload()).encode()).upper(),
        signature(json.dumps(payload()).encode()).removeprefix("sha256="),
        signature(json.dumps(payload()).encode()) + ", sha256=0",
        "sha256=é",
    ],
)
def test_a_forged_signature_is_refused_before_anything_is_parsed(db: None, given: str) -> None:
    answer = deliver(payload(), **{"X-Hub-Signature-256": given})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")
    assert deliver(b"{not json", **{"X-Hub-Signature-256": given}).status_code == 401
    assert not WebhookDelivery.objects.exists()


def test_signing_in_does_not_stand_for_a_signature(alice_api: APIClient, api: APIClient) -> None:
    for client in (alice_api, api):
        assert client.post(PATH, payload()).status_code == 401


def test_deliveries_are_counted_by_hook_and_forgeries_by_address(
    db: None, settings: LazySettings
) -> None:
    """All of GitHub's customers share its addresses: a forger there must stop nobody else."""
    settings.RATELIMIT_ENABLE = True
    cache = {**settings.CACHES["default"], "KEY_PREFIX": f"{settings.REDIS_PREFIX}:{uuid.uuid4()}"}
    settings.CACHES = {"default": cache}
    settings.RATE_LIMITS = settings.RATE_LIMITS | {"webhook": "2/1h"}

    def codes(**headers: str) -> list[int]:
        return [deliver({}, "star", **headers).status_code for _ in range(3)]

    assert codes(**{"X-Hub-Signature-256": "sha256=0"}) == [401, 401, 429]
    assert codes() == [200, 200, 429]
    assert codes(**{"X-GitHub-Hook-ID": "8"}) == [200, 200, 429]
    refused = deliver({}, "star")
    assert (refused["X-RateLimit-Limit"], refused["X-RateLimit-Remaining"]) == ("2", "0")
    assert refused["Retry-After"]


def test_without_the_secret_it_says_so(db: None, settings: LazySettings) -> None:
    settings.GITHUB_WEBHOOK_SECRET = ""
    body = json.dumps(payload()).encode()
    answer = deliver(body, **{"X-Hub-Signature-256": signature(body, "")})
    assert answer.status_code == 503
    assert "GITHUB_WEBHOOK_SECRET" in answer.json()["error"]["message"]
    assert not WebhookDelivery.objects.exists()


def test_what_is_larger_than_github_sends_is_not_read(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = b" " * (26 * 1024**2)
    assert deliver(big).status_code == 413
    monkeypatch.setattr(webhooks, "MOST_BYTES", 1000)
    body = json.dumps(payload(note="x" * 100)).encode()
    assert deliver(body.ljust(1000)).status_code == 200
    assert deliver(body.ljust(1001)).status_code == 413


def test_more_than_a_form_may_hold_is_taken(db: None, settings: LazySettings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    assert deliver(payload(note="x" * 1000)).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"[" * 100_000, b"\xff"])
def test_a_signed_body_that_is_no_object_is_refused(db: None, body: bytes) -> None:
    answer = deliver(body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "headers", [{"X-GitHub-Event": ""}, {"X-GitHub-Event": "a b"}, {"X-GitHub-Delivery": "a b"}]
)
def test_bad_headers_are_refused(db: None, headers: dict[str, str]) -> None:
    assert deliver(payload(), **headers).status_code == 400


def test_a_form_and_a_request_without_an_id_are_taken(db: None) -> None:
    body = urlencode({"payload": json.dumps(payload())}).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert deliver(body, **form).status_code == 200
    assert deliver(b"payload", **form).status_code == 400
    for _ in range(2):
        assert deliver(payload(), **{"X-GitHub-Delivery": ""}).status_code == 200
    assert WebhookDelivery.objects.count() == 2


@pytest.mark.parametrize("values", [{}, {"repository": 5}, {"repository": {"id": "x"}}])
def test_any_other_event_is_noted_and_leads_to_nothing(
    db: None, values: dict[str, Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        assert deliver({"action": "created", **values}, "star").status_code == 200
    assert WebhookDelivery.objects.get().state == State.DONE
    assert rung == []


def test_a_replay_does_nothing_even_after_it_was_forgotten(
    alice: User, github: FakeGithub, django_capture_on_commit_callbacks: Any
) -> None:
    repository = make_repository(alice, kind="github", github_id=5000)
    stored = make_pull_request(repository)
    bodies = [pull("open", 5), pull("merged", 9)]
    for body in bodies:
        assert deliver(body, "pull_request", delivery=f"id-{bodies.index(body)}").status_code == 200
    with django_capture_on_commit_callbacks(execute=True):
        assert deliver(bodies[0], "pull_request", delivery="id-0").status_code == 200
    assert (rung, WebhookDelivery.objects.count()) == ([], 2)
    WebhookDelivery.objects.update(received_at=timezone.now() - timedelta(days=91))
    assert webhooks.forget_old() == 2
    deliver(bodies[0], "pull_request", delivery="id-0")
    stored.refresh_from_db()
    assert stored.state == "merged"


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_duplicates_at_one_time_one_is_stored_and_worked_on() -> None:
    body = json.dumps(payload()).encode()
    given = webhooks.Given(body, signature(body), "push", "the-same", "7")
    stored: list[bool] = []
    done: list[bool] = []
    start = threading.Barrier(20)

    def run() -> None:
        try:
            start.wait()
            stored.append(webhooks.receive(given))
            start.wait()
            done.append(webhooks.process(WebhookDelivery.objects.get().pk))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (stored.count(True), done.count(True), len(rung)) == (1, 1, 1)
    assert (len(stored), len(done)) == (20, 20)
    assert WebhookDelivery.objects.get().attempts == 1


@pytest.mark.parametrize("order", list(permutations([1, 2, 3])))
def test_a_pull_request_ends_the_same_in_any_order(
    order: tuple[int, ...], alice: User, mallory: User, github: FakeGithub
) -> None:
    stored = make_pull_request(make_repository(alice, kind="github", github_id=5000))
    other = make_pull_request(make_repository(mallory, kind="github", github_id=5001))
    states = {1: "open", 2: "closed", 3: "merged"}
    for minute in (*order, *order):
        deliver(pull(states[minute], minute), "pull_request")
    assert {row.state for row in WebhookDelivery.objects.all()} == {State.DONE}
    stored.refresh_from_db()
    assert (stored.state, stored.title) == ("merged", "Title at 3")
    other.refresh_from_db()
    assert (other.state, other.title) == ("open", "First")


@pytest.mark.parametrize(
    "values",
    [{"state": "odd"}, {"updated_at": "never"}, {"updated_at": "2026-03-01"}, {"number": 0}],
)
def test_a_pull_request_that_makes_no_sense_changes_nothing(
    values: dict[str, Any], alice: User, github: FakeGithub
) -> None:
    stored = make_pull_request(make_repository(alice, kind="github", github_id=5000))
    assert deliver(pull("closed", 5, **values), "pull_request").status_code == 200
    stored.refresh_from_db()
    assert stored.title == "First"


def test_a_push_refreshes_the_mirror(alice: User, github: FakeGithub, tmp_path: Path) -> None:
    connect_account(alice, github)
    serve_git(github, tmp_path, "octo/app")
    sync.sync_from_github(alice)
    repository = Repository.objects.get()
    deliver(payload())
    assert webhooks.process(WebhookDelivery.objects.get().pk)
    assert not connect.mirror_path(repository).exists(), "nobody has worked on it yet"
    connect.sync_repository(repository)
    commit = commit_upstream(tmp_path / "work", {"new.txt": "new"})
    plain_git("push", "-q", str(tmp_path / "served/octo/app.git"), "main", cwd=tmp_path / "work")
    assert connect.commit_of(repository, "main") != commit
    deliver(payload())
    assert webhooks.process(WebhookDelivery.objects.get(state=State.WAITING).pk)
    assert connect.commit_of(repository, "main") == commit


def test_what_only_changes_rows_needs_no_worker(
    alice: User, github: FakeGithub, django_capture_on_commit_callbacks: Any
) -> None:
    stored = make_pull_request(make_repository(alice, kind="github", github_id=5000))
    with django_capture_on_commit_callbacks(execute=True):
        deliver(pull("merged", 9), "pull_request")
        deliver(payload("ping"), "ping")
    stored.refresh_from_db()
    assert (stored.state, RepositoryWebhook.objects.count(), rung) == ("merged", 1, [])


def test_a_ping_tells_what_is_configured(alice: User, github: FakeGithub) -> None:
    make_repository(alice, kind="github", web_url=f"{github.url}/Octo/App")
    deliver(payload("ping"), "ping")
    hook = RepositoryWebhook.objects.get()
    assert (hook.hook_id, hook.events, hook.is_active) == (7, ["push"], True)


@pytest.fixture
def shared(alice: User, mallory: User, github: FakeGithub, tmp_path: Path) -> Any:
    """One repository in the lists of two users; mallory's mirror cannot be brought up to date.

    Hers was fetched last, so hers is tried first.
    """
    connect_account(alice, github)
    server = serve_git(github, tmp_path, "octo/app")
    theirs = server.url("octo/app.git")
    mine, hers = (
        make_repository(owner, kind="github", github_id=5000, url=theirs)
        for owner in (alice, mallory)
    )
    connect._seal(hers, git.Credential("bot", TOKEN))
    hers.save()
    for one in (mine, hers):
        connect.sync_repository(one)
    commit = commit_upstream(tmp_path / "work", {"new.txt": "new"})
    plain_git("push", "-q", str(tmp_path / "served/octo/app.git"), "main", cwd=tmp_path / "work")
    return server, mine, hers, commit


@pytest.mark.parametrize("fault", ["refused", "slow"])
def test_the_repository_of_another_that_fails_stops_nobody(
    fault: str, shared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, mine, hers, commit = shared
    monkeypatch.setattr(webhooks, "REFRESH_SECONDS", 2.0)
    (tmp_path / "served/octo/app.git").rename(tmp_path / "served/octo/moved.git")
    mine.url = server.url("octo/moved.git")
    mine.save()
    if fault == "slow":
        server.hang, server.hang_at = threading.Event(), "octo/app.git"
    deliver(payload())
    row = WebhookDelivery.objects.get()
    assert not webhooks.process(row.pk)
    assert connect.commit_of(mine, "main") == commit
    row.refresh_from_db()
    assert (row.state, row.error.startswith("mallory")) == (State.WAITING, True)
    if server.hang:
        server.hang.set()
    server.hang = None
    (tmp_path / "served/octo/moved.git").rename(tmp_path / "served/octo/app.git")
    Repository.objects.update(url=server.url("octo/app.git"))
    WebhookDelivery.objects.update(run_after=timezone.now())
    assert webhooks.process(row.pk)
    assert connect.commit_of(hers, "main") == commit


def test_many_that_wait_are_rung_for_once_and_worked_on_by_one_bell(db: None) -> None:
    for _ in range(30):
        deliver(payload())
    waited = timezone.now() - timedelta(minutes=1)
    WebhookDelivery.objects.update(run_after=waited)
    webhooks.ring_waiting()
    assert len(rung) == 1
    assert webhooks.process_due() == 30
    rung.clear()
    webhooks.ring_waiting()
    assert (rung, webhooks.process_due()) == ([], 0)


def test_work_that_fails_is_tried_again_and_then_given_up(
    alice: User, github: FakeGithub, tmp_path: Path, staff: User, page: Client
) -> None:
    connect_account(alice, github)
    server = serve_git(github, tmp_path, "octo/app")
    sync.sync_from_github(alice)
    connect.sync_repository(Repository.objects.get())
    server.status = 500
    deliver(payload())
    row = WebhookDelivery.objects.get()
    for attempt in range(1, webhooks.MOST_TRIES + 1):
        assert not webhooks.process(row.pk)
        row.refresh_from_db()
        assert row.attempts == attempt
        assert not webhooks.process(row.pk), "not before its time"
        webhooks.ring_waiting()
        assert rung == []
        WebhookDelivery.objects.update(run_after=timezone.now() - timedelta(minutes=1))
    assert row.state == State.FAILED
    assert row.error
    server.status = 0
    page.force_login(staff)
    assert site.is_registered(WebhookDelivery)
    action = {"action": "try_again", "_selected_action": [str(row.pk)]}
    page.post("/admin/repositories/webhookdelivery/", action)
    assert rung == [row.pk]
    assert webhooks.process(row.pk)


def test_what_nobody_came_back_from_is_given_up(db: None) -> None:
    deliver(payload())
    row = WebhookDelivery.objects.get()
    past = timezone.now() - timedelta(minutes=1)
    WebhookDelivery.objects.update(attempts=webhooks.MOST_TRIES, run_after=past)
    webhooks.ring_waiting()
    assert rung == [row.pk]
    assert not webhooks.process(row.pk)
    row.refresh_from_db()
    assert row.state == State.FAILED
