"""A whole instance for tests of many parts: server, worker, models, GitHub and Clerk on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from accounts import tokens
from accounts.models import ExternalIdentity, User
from accounts.tests.clerk_server import ORIGIN, ClerkServer, running_clerk
from asynccoder.tests.github_server import FakeGithub
from asynccoder.tests.processes import Process, StartProcess, answers, free_port, wait_for
from tasks.models import Task
from tasks.tests.world import World, bash, build_world, finish

PASSWORD = "correct horse battery"
WEBHOOK_SECRET = "webhook-secret-of-the-test"
CHANGE = "printf 'def add(a, b):\\n    return a + b\\n' > added.py; echo new >> README.md"


@dataclass
class Scene:
    """The instance with a client's credentials, and what the placeholders of documents stand for."""

    url: str
    user: User
    world: World
    clerk: ClerkServer
    processes: list[Process]
    token: str
    given: dict[str, Any] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        sent = {"Authorization": f"Bearer {self.token}"} | headers
        return requests.request(method, self.url + path, json=body, headers=sent, timeout=60)

    def finished(self, task_id: str) -> Task:
        return self.world.finished(Task.objects.get(pk=task_id), seconds=120)


@pytest.fixture
def scene(open_scene: Callable[..., Scene]) -> Scene:
    return open_scene()


@pytest.fixture
def open_scene(
    alice: User,
    github: FakeGithub,
    start_process: StartProcess,
    worker_process: Callable[..., Process],
    tmp_path: Path,
) -> Iterator[Callable[..., Scene]]:
    """A function that starts the instance, with further environment variables as keywords."""
    User.objects.filter(pk=alice.pk).update(
        display_name="Alice A.", avatar_url="https://example.com/a.png"
    )
    with contextlib.ExitStack() as stack:
        clerk = stack.enter_context(running_clerk())
        script = [bash(CHANGE), *finish()]
        world = stack.enter_context(
            build_world(alice, script, worker_process, tmp_path / "repository")
        )
        processes: list[Process] = []

        def start(**environment: str) -> Scene:
            port = free_port()
            url = f"http://localhost:{port}"
            world.environment |= _environment(clerk, github, port) | environment
            daphne = start_process(
                "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port),
                "asynccoder.asgi:application", **world.environment,
            )  # fmt: skip
            wait_for(lambda: answers(f"{url}/health"), seconds=60, what="daphne answers")
            processes.extend([daphne, world.worker()])
            ExternalIdentity.objects.create(user=alice, issuer=clerk.url, subject="user_2abc")
            made = Scene(url, alice, world, clerk, processes, str(tokens.begin(alice).access))
            made.given = {"clerkToken": clerk.token(), "aiModelId": str(world.model.pk)}
            return made

        yield start
        for process in processes:
            assert "Traceback" not in process.output()


def _environment(clerk: ClerkServer, github: FakeGithub, port: int) -> dict[str, str]:
    return {
        "PORT": str(port),
        "PUBLIC_URL": f"http://localhost:{port}",
        "CLERK_ISSUER": clerk.url,
        "CLERK_AUTHORIZED_PARTIES": ORIGIN,
        "GITHUB_URL": github.url,
        "GITHUB_API_URL": github.api,
        "GITHUB_CLIENT_ID": github.client_id,
        "GITHUB_CLIENT_SECRET": github.client_secret,
        "GITHUB_WEBHOOK_SECRET": WEBHOOK_SECRET,
        # As many tasks and sign-ins as the documents print, in one hour.
        "RATE_AUTHENTICATION": "100/15m",
        "RATE_TASK_CREATE": "100/1h",
    }
