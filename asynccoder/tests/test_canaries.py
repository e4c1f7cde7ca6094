"""Secrets of every kind go through a whole instance, and are then looked for wherever it writes.

The places are the database, Redis, the logs, everything under VAR_DIR, the arguments of every
process, what clients and sockets were told, and what models and GitHub were sent. A word that is no
secret is found there, so that a place which is not searched is noticed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import requests
from django.apps import apps
from django.conf import settings
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from accounts.models import User
from asynccoder.tests.github_server import FakeGithub
from asynccoder.tests.scene import PASSWORD, Scene
from repositories.tests.github_server import serve_git
from tasks.tests.world import bash, finish

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.services,
]

MARKER = "marker-that-is-no-secret"


def canary(kind: str) -> str:
    return f"canary-{kind}-{hashlib.sha256(kind.encode()).hexdigest()[:24]}"


SETTINGS = (
    "CLAUDE_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY", "GITHUB_CLIENT_SECRET",
    "GITHUB_WEBHOOK_SECRET", "CLERK_SECRET_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET",
)  # fmt: skip
GIVEN = (
    "password", "wrong-password", "provider-key", "second-provider-key", "model-key",
    "clone-token", "token-in-address", "github-token", "github-code", "invalid-bearer",
    "invalid-access-key", "socket-token", "refresh",
)  # fmt: skip
LOOK = "env; cat /proc/self/environ /proc/1/environ; git config --list; ls -R $HOME /run /tmp"


@pytest.fixture
def scene(open_scene: Callable[..., Scene], github: FakeGithub) -> Scene:
    environment = {name: canary(name) for name in SETTINGS}
    github.client_secret = environment["GITHUB_CLIENT_SECRET"]
    settings.OPENAI_API_KEY = environment["OPENAI_API_KEY"]
    return open_scene(OUTBOUND_ALLOWED=f"127.0.0.1:{github.port}", **environment)


def test_no_secret_is_found_where_the_platform_writes(
    scene: Scene, github: FakeGithub, tmp_path: Path
) -> None:
    with arguments_watched() as arguments:
        heard = [*_use_everything(scene, github, tmp_path)]
    secrets = {name: canary(name) for name in (*SETTINGS, *GIVEN)}
    secrets |= {name: scene.given[name] for name in HANDED_OUT}
    secrets |= {name: getattr(settings, name) for name in ("SECRET_KEY", "JWT_SECRET")}
    assert len(secrets) >= 25
    places = {
        "database": _database(),
        "redis": _redis(),
        "logs": "".join(process.output() for process in scene.processes),
        "folder": _files(Path(settings.VAR_DIR)),
        "arguments": "\n".join(arguments),
        "replies": "\n".join(heard),
        "models": json.dumps(scene.world.server.bodies()),
        "github": json.dumps(github.pulls),
    }
    for place in ("database", "folder", "replies", "models", "github"):
        assert MARKER in places[place], f"{place} is not searched"
    assert str(scene.user.pk) in places["logs"]
    assert "manage.py" in places["arguments"]
    found = {
        (name, place)
        for name, secret in secrets.items()
        for place, text in places.items()
        if any(form in text for form in _forms(secret))
    }
    assert found == set()


HANDED_OUT = ("bearer", "access-key", "clerkToken")
"""Secrets that the platform or Clerk made; the one reply that hands them out is not kept."""


def _forms(secret: str) -> set[str]:
    """Return a secret as it stands, encoded for an address, and in base64 at any offset."""
    inner = {
        base64.b64encode(b"x" * offset + secret.encode())[4:-4].decode() for offset in range(3)
    }
    return {secret, quote(secret, safe="")} | inner


def _use_everything(scene: Scene, github: FakeGithub, tmp_path: Path) -> Iterator[str]:
    """Send every secret where it belongs, and where it does not; give what is answered."""
    yield from _sign_in(scene)
    yield from _keep_keys(scene)
    repository = yield from _connect(scene, github, tmp_path)
    yield from _run_tasks(scene, github, repository)
    yield from _follow(scene)
    for path in (
        "/api/users/me",
        "/api/tasks",
        "/api/v1/api-keys",
        "/api/v1/access-keys",
        "/api/repositories",
    ):
        yield scene.ask("GET", path).text


def _sign_in(scene: Scene) -> Iterator[str]:
    scene.given["bearer"] = scene.token
    account = {"email": "bob@example.com", "username": "bob", "password": canary("password")}
    made = scene.ask("POST", "/api/v1/auth/register", account | {"name": MARKER})
    assert made.status_code == 201, made.text
    wrong = {"email": scene.user.email, "password": canary("wrong-password")}
    yield scene.ask("POST", "/api/v1/auth/login", wrong).text
    yield scene.ask("POST", "/api/v1/auth/login", account | {"password": [canary("password")]}).text
    yield scene.ask("POST", "/api/v1/auth/refresh", {"refresh_token": canary("refresh")}).text
    yield scene.ask("GET", "/api/users/me", Authorization=f"Bearer {canary('invalid-bearer')}").text
    yield scene.ask(
        "GET", "/api/users/me", Authorization="", **{"X-API-Key": canary("invalid-access-key")}
    ).text
    assert scene.ask("POST", "/api/auth/login", {"clerkToken": scene.given["clerkToken"]}).ok
    assert scene.ask(
        "POST", "/api/v1/auth/login", {"email": scene.user.email, "password": PASSWORD}
    ).ok


def _keep_keys(scene: Scene) -> Iterator[str]:
    key = {"provider": "anthropic", "name": MARKER, "key": canary("provider-key")}
    yield scene.ask("POST", "/api/v1/api-keys", key).text
    yield scene.ask("POST", "/api/v1/api-keys", key | {"provider": "no such"}).text
    yield scene.ask(
        "POST",
        "/api/v1/api-keys",
        {"provider": "gemini", "name": "2", "key": canary("second-provider-key")},
    ).text
    yield scene.ask(
        "POST", "/api/v1/api-keys", {"provider": "custom", "name": "3", "key": canary("model-key")}
    ).text
    made = scene.ask("POST", "/api/v1/access-keys", {"name": MARKER, "scopes": ["task:read"]})
    assert made.status_code == 201, made.text
    scene.given["access-key"] = next(
        value for value in made.json().values() if isinstance(value, str) and len(value) > 40
    )
    yield scene.ask(
        "GET", "/api/v1/tasks", Authorization="", **{"X-API-Key": scene.given["access-key"]}
    ).text


def _connect(scene: Scene, github: FakeGithub, tmp_path: Path) -> Generator[str, None, str]:
    """Connect repositories with and without right credentials, and GitHub."""
    serve_git(github, tmp_path, "octo/app", token=canary("github-token"))
    address = f"127.0.0.1:{github.port}/octo/app.git"
    in_address = f"http://bot:{canary('token-in-address')}@{address}"
    yield scene.ask("POST", "/api/v1/repositories", {"url": in_address}).text
    asked = {"url": f"http://{address}", "username": "bot", "token": canary("clone-token")}
    yield scene.ask("POST", "/api/v1/repositories", asked).text
    begun = scene.ask("GET", "/api/v1/users/github").json()
    code = github.add_user(canary("github-token"))
    github.codes[canary("github-code")] = github.codes.pop(code)
    github.agree(begun["authorize_url"], canary("github-code"))
    sent = {"code": canary("github-code"), "state": begun["state"]}
    connected = scene.ask("POST", "/api/v1/users/github", sent)
    assert connected.ok, connected.text
    yield connected.text
    yield scene.ask("POST", "/api/v1/users/github", sent).text
    synced = scene.ask("POST", "/api/repositories/sync", {"force": True})
    assert synced.ok, synced.text
    raw = json.dumps({"zen": MARKER, "hook": {"id": 7}}).encode()
    for secret in (canary("GITHUB_WEBHOOK_SECRET"), "another"):
        digest = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
        headers = {"X-GitHub-Event": "ping", "X-Hub-Signature-256": f"sha256={digest}"}
        headers |= {"X-GitHub-Delivery": digest[:32], "Content-Type": "application/json"}
        yield requests.post(
            f"{scene.url}/api/webhooks/github", raw, headers=headers, timeout=60
        ).text
    listed = scene.ask("GET", "/api/v1/repositories").json()["repositories"]
    return next(str(one["id"]) for one in listed if one["full_name"] == "octo/app")


def _run_tasks(scene: Scene, github: FakeGithub, repository: str) -> Iterator[str]:
    """One task looks for secrets and opens a pull request; of the other, the provider fails."""
    scene.world.server.script = [
        bash(f"{LOOK}; echo {MARKER} >> README.md"),
        *finish(summary=MARKER),
    ]
    asked = {"type": "debug", "prompt": MARKER, "repository_id": repository, "model": "scripted"}
    made = scene.ask("POST", "/api/v1/tasks", asked)
    assert made.status_code == 201, made.text
    scene.given["task"] = made.json()["id"]
    done = scene.finished(scene.given["task"])
    assert (done.outcome, done.is_pushed, len(github.pulls["octo/app"])) == ("done", True, 1)
    message = f"Incorrect API key provided: {canary('OPENAI_API_KEY')}"
    scene.world.server.script = lambda _: {"fault": {"status": 401, "message": message}}
    failed = scene.ask("POST", "/api/v1/tasks", asked).json()["id"]
    assert scene.finished(failed).status == "failed"
    for task in (scene.given["task"], failed):
        for path in ("", "/log", "/artifacts"):
            yield scene.ask("GET", f"/api/v1/tasks/{task}{path}").text


def _follow(scene: Scene) -> Iterator[str]:
    address = (
        f"{scene.url.replace('http', 'ws', 1)}/api/ws/task/{scene.given['task']}?after=0&token="
    )
    with connect(f"{address}{scene.token}") as line:
        yield from (str(text) for text in line)
    with connect(f"{address}{canary('socket-token')}") as line:
        with pytest.raises(ConnectionClosedError) as refused:
            line.recv(timeout=60)
        yield str(refused.value)
    stream = scene.ask("GET", f"/api/v1/tasks/{scene.given['task']}/stream")
    yield stream.text


@contextmanager
def arguments_watched() -> Iterator[set[str]]:
    """Note the arguments of every process there is, again and again, until the block is left."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _database() -> str:
    return "\n".join(
        repr(row) for model in apps.get_models() for row in model._default_manager.values()
    )


def _redis() -> str:
    found: list[Any] = []
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for key in client.scan_iter(f"*{settings.REDIS_PREFIX}*", count=1000):
            found += [key, client.dump(key)]
    return repr(found)


def _files(folder: Path) -> str:
    """Return all that lies below a folder, with the names; git's objects as git unpacks them."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found += [str(path), path.read_bytes().decode("latin-1")]
    return "\n".join(found)


def test_the_search_finds_what_is_there(alice: User) -> None:
    secret = canary("of-the-control")
    for text in (secret, quote(secret), base64.b64encode(f"a:{secret}:b".encode()).decode()):
        assert any(form in f"before {text} behind" for form in _forms(secret)), text
    User.objects.filter(pk=alice.pk).update(display_name=secret)
    assert secret in _database()
