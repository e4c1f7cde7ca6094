"""Run one task from a terminal, in the foreground."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from accounts.models import Role, User
from aimodels.models import AIModel
from asynccoder.lib.errors import AppError
from billing import ledger
from repositories import connect
from repositories.models import Repository
from tasks import lifecycle
from tasks.errors import SandboxMissing, TaskFinished
from tasks.models import Check, Status, Task, TaskLog, TaskType
from tasks.runner import prove_sandbox
from tasks.worker import Worker

LOCAL_USER = "local"
CANCELLED = 130
EXITS = {Status.FAILED: 1, Status.CANCELLED: CANCELLED}
DONE, BLOCKED, UNPROVEN = 0, 3, 4
SIGNS = {"passed": "✔", "failed": "✖", "not_run": "◌"}
POLL_SECONDS = 0.15


class Command(BaseCommand):
    help = (
        "Run a task on a repository and wait for it. Exit status: 0 done, 1 failed, 2 refused, "
        "3 blocked, 4 done but a check fails, 130 cancelled."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prompt")
        parser.add_argument("--repository", required=True, help="A path or an https URL.")
        parser.add_argument("--type", default="debug", choices=TaskType.values)
        parser.add_argument("--model", help="A model's name; chosen for you without it.")
        parser.add_argument("--branch", default="")
        parser.add_argument("--target-branch", default="", help="What a review compares with.")
        parser.add_argument("--patch", help="A file with the diff to review.")
        parser.add_argument("--user", default=LOCAL_USER, help="Whose task it is.")
        parser.add_argument("--output", help="Write the diff or document to this file.")

    def handle(self, *args: Any, **options: Any) -> None:
        # The log of the task is what a person wants to read here.
        logging.getLogger().setLevel(logging.ERROR)
        prepare_database()
        try:
            prove_sandbox()
            owner = find_user(options["user"])
            task = create(owner, options)
        except SandboxMissing as error:
            raise CommandError(f"no sandbox: {error}", returncode=2) from error
        except AppError as error:
            raise CommandError(error.message, returncode=2) from error
        self.stdout.write(f"Task {task.pk}: {task.title}\nModel {task.model}\n")
        follow(task, self.stdout, is_terminal=sys.stdout.isatty())
        task.refresh_from_db()
        show_end(task, self.stdout, options["output"])
        status = exit_status(task)
        if status:
            sys.exit(status)


def prepare_database() -> None:
    """Migrate an embedded database that is not there yet; another one is its operator's."""
    if connection.vendor == "sqlite" and "tasks_task" not in connection.introspection.table_names():
        Path(settings.VAR_DIR).mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=0)
        call_command("loadmodels", verbosity=0)


def find_user(name: str) -> User:
    """Return the user of that name; the local one is made when it is first needed."""
    user = User.objects.filter(username=name).first()
    if user is None and name == LOCAL_USER:
        user = User(username=LOCAL_USER, email="local@localhost.invalid", role=Role.ADMIN)
        user.set_unusable_password()
        user.save()
        ledger.grant(
            user_id=user.pk,
            microcredits=10_000 * ledger.MICROCREDITS,
            reference=f"local:{user.pk}",
            description="For tasks from this terminal",
        )
    if user is None:
        raise AppError(f"There is no user {name!r}.")
    return user


def create(owner: User, options: dict[str, Any]) -> Task:
    """Connect the repository if it is not, and create the task without ringing for a worker."""
    model = None
    if options["model"]:
        model = AIModel.objects.visible_to(owner).active().filter(name=options["model"]).first()
        if model is None:
            raise AppError(f"There is no model {options['model']!r}.")
    patch = Path(options["patch"]).read_text() if options["patch"] else ""
    task, _ = lifecycle.create_task(
        owner=owner,
        ring=False,
        request=lifecycle.TaskRequest(
            type=options["type"],
            prompt=options["prompt"],
            repository=find_repository(owner, options["repository"]),
            model=model,
            branch=options["branch"],
            target_branch=options["target_branch"],
            patch=patch,
        ),
    )
    return task


def find_repository(owner: User, given: str) -> Repository:
    """Return the connected repository of a path or URL; whoever runs this may read the path."""
    url = given if "://" in given else str(Path(given).resolve())
    found: Repository | None = Repository.objects.filter(
        owner=owner, url=url, is_active=True
    ).first()
    return found or connect.connect_repository(owner=owner, url=url, is_operator=True)


def follow(task: Task, out: Any, *, is_terminal: bool) -> None:
    """Work on the task here and print its log until it has ended.

    Ctrl-C cancels it; a second one does not wait for the end of what it runs.
    """
    worker = Worker(slots=1, only=task.pk)
    worker.start()
    threading.Thread(target=worker.serve, daemon=True).start()
    asked: list[int] = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, _: asked.append(number))
    sequence, is_cancelled = 0, False
    while True:
        task.refresh_from_db()
        for row in task.log.filter(sequence__gt=sequence).order_by("sequence"):
            sequence = row.sequence
            print_row(row, out, is_terminal=is_terminal)
        draw_bar(task, out, is_terminal=is_terminal)
        if task.is_finished or len(asked) > 1:
            break
        if asked and not is_cancelled:
            is_cancelled = True
            out.write("\nCancelling; Ctrl-C again ends it at once.")
            cancel(task)
        time.sleep(POLL_SECONDS)
    worker.stop()


def cancel(task: Task) -> None:
    try:
        lifecycle.cancel_task(task, by=task.owner)
    except TaskFinished:
        return


def print_row(row: TaskLog, out: Any, *, is_terminal: bool) -> None:
    """Print one event as a line; streamed text and mere progress are left to the bar."""
    if row.kind in {"model.text", "task.progressed", "step.started", "task.plan_changed"}:
        return
    clear = "\r\x1b[2K" if is_terminal else ""
    line = row.message or row.kind
    if row.data.get("exit_code"):
        line += f"  (exit {row.data['exit_code']})"
    out.write(f"{clear}{row.created_at:%H:%M:%S} {row.sequence:>4}  {printable(line)}")


def printable(text: str) -> str:
    """Return the text without characters that would steer the terminal."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)


def draw_bar(task: Task, out: Any, *, is_terminal: bool) -> None:
    if not is_terminal or task.is_finished:
        return
    width = shutil.get_terminal_size().columns
    filled = task.progress * 20 // 100
    bar = "█" * filled + "░" * (20 - filled)
    line = f"{bar} {task.progress:>3} %  {printable(task.current_step)}"[: width - 1]
    out.write(f"\r\x1b[2K{line}", ending="")
    out.flush()


def show_end(task: Task, out: Any, output: str | None) -> None:
    """Print the result, what the platform checked, and the price."""
    result = getattr(task, "result", None)
    if result is not None:
        if output:
            Path(output).write_text(result.diff or result.content)
        for part in (result.content, _coloured(result.diff, out), result.summary):
            if part:
                out.write(f"\n{part}")
    for check in task.checks.all():
        reason = f" — {check.reason}" if check.reason else ""
        sign = SIGNS[check.verdict]
        out.write(f"{sign} {check.phase:<6} {check.command} (exit {check.exit_code}){reason}")
    if task.result_branch:
        out.write(f"Branch {task.result_branch}{' pushed' if task.is_pushed else ' (kept here)'}")
    if result is not None and result.pull_request_url:
        out.write(f"Pull request {result.pull_request_url}")
    if task.error_message:
        out.write(f"{task.error_code}: {task.error_message}")
    spent = ledger.as_credits(task.charged_microcredits)
    out.write(f"{task.status} {task.outcome}".strip() + f" · {spent:.4f} credits")


def _coloured(diff: str, out: Any) -> str:
    """Return the diff with its lines in colour where the terminal shows colours."""
    signs = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
    is_coloured = bool(getattr(out, "isatty", lambda: False)())
    lines = []
    for raw in diff.splitlines():
        line = printable(raw.replace("\t", "    "))
        colour = signs.get(line[:1], "") if is_coloured else ""
        lines.append(f"{colour}{line}\x1b[0m" if colour else line)
    return "\n".join(lines)


def exit_status(task: Task) -> int:
    if task.status != Status.COMPLETED:
        return EXITS.get(Status(task.status), CANCELLED)
    if task.outcome == "blocked":
        return BLOCKED
    newest = task.checks.filter(phase=Check.Phase.AFTER).order_by("-round").first()
    if newest is not None:
        after = task.checks.filter(phase=Check.Phase.AFTER, round=newest.round)
        if after.filter(verdict=Check.Verdict.FAILED).exists():
            return UNPROVEN
    return DONE
