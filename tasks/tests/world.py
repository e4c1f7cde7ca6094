"""A whole small world for tests of runs: a repository, a scripted model, a real worker."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from accounts.models import User
from aimodels.models import AIModel
from aimodels.tests.model_server import ModelServer, serve
from asynccoder.tests.processes import Process, wait_for
from billing import ledger
from repositories import connect
from repositories.models import Repository
from tasks import lifecycle
from tasks.models import Task
from tasks.tests.make import make_model

SHORT = {
    "LEASE_SECONDS": "2",
    "LEASE_RENEW_SECONDS": "0.4",
    "SWEEP_SECONDS": "0.3",
    "CANCEL_POLL_SECONDS": "0.1",
    "MODEL_MAX_RETRIES": "0",
    "LOG_LEVEL": "INFO",
}
"""Small times for the workers of tests: everything else is as in production."""
PRICE = Decimal("0.000001")


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def bash(command: str) -> dict[str, Any]:
    """Return a turn that runs one command."""
    return {"text": f"I run {command[:30]}", "tool_calls": [call("bash", command=command)]}


def finish(**values: Any) -> list[dict[str, Any]]:
    """Return the two turns that end a run: the first is answered with the checklist."""
    arguments = {
        "status": "done",
        "summary": "All of it is done.",
        "evidence": "The checks say so.",
        "cause": "The lines were missing from the notes.",
        "how_to_try": "Run `python app.py` in the folder.",
    }
    turn = {"text": "", "tool_calls": [call("finish", **(arguments | values))]}
    return [turn, turn]


def commit_files(folder: Path, files: dict[str, str], *, branch: str = "main") -> None:
    """Write files and commit them on a branch of an own, ordinary repository."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run_git(folder, "init", "-q", "-b", "main")
    if branch != "main":
        run_git(folder, "checkout", "-q", "-B", branch)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-q", "-m", "change")


def run_git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Alice", "-c", "user.email=alice@example.com")
    found = subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return found.stdout


@dataclass
class World:
    """What a test plays with. ``reached`` is set when the model is asked for a given turn."""

    owner: User
    repository: Repository
    server: ModelServer
    model: AIModel
    start_worker: Callable[..., Process]
    environment: dict[str, str]
    reached: dict[int, threading.Event] = field(default_factory=dict)

    def worker(self, **environment: str) -> Process:
        return self.start_worker(**(SHORT | self.environment | environment))

    def create(self, **values: Any) -> Task:
        defaults: dict[str, Any] = {
            "type": "debug", "prompt": "Make it so.", "model": self.model,
            "repository": self.repository,
        }  # fmt: skip
        task, _ = lifecycle.create_task(
            owner=self.owner, request=lifecycle.TaskRequest(**(defaults | values))
        )
        return task

    def finished(self, task: Task, *, seconds: float = 60) -> Task:
        """Wait for the end of a task and return it fresh."""

        def has_ended() -> bool:
            task.refresh_from_db()
            return task.is_finished

        wait_for(has_ended, seconds=seconds, what=f"the task ends (now {task.status})")
        return task

    def asked(self) -> int:
        """Return how many requests for a completion the model server has seen."""
        return len(self.server.bodies())


@contextmanager
def build_world(
    owner: User,
    script: list[dict[str, Any]] | Callable[[dict[str, Any]], dict[str, Any]],
    start_worker: Callable[..., Process],
    folder: Path,
    *,
    kind: str = "openai",
    files: dict[str, str] | None = None,
) -> Iterator[World]:
    """Make a repository of these files and a model server with this script."""
    os.environ.pop("SSL_CERT_FILE", None)
    commit_files(folder, files or {"app.py": "print('hello')\n"})
    ledger.grant(user_id=owner.pk, microcredits=1_000_000_000, reference=f"gift:{owner.pk}")
    repository = connect.connect_repository(owner=owner, url=str(folder), is_operator=True)
    names = {"openai": "OPENAI", "anthropic": "ANTHROPIC", "gemini": "GEMINI"}
    key = {"anthropic": "CLAUDE_API_KEY"}.get(kind, f"{names[kind]}_API_KEY")
    with serve(script) as server:
        model = make_model(
            provider=kind, name="scripted", display_name="Scripted", input_price=PRICE,
            output_price=PRICE, cached_input_price=PRICE, context_window=100_000,
        )  # fmt: skip
        environment = {f"{names[kind]}_BASE_URL": server.base_url(kind), key: "sk-platform-key"}
        yield World(owner, repository, server, model, start_worker, environment)
