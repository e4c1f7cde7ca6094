"""Show a fresh instance at work: a demo account, a sample repository and one task on it."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from accounts import registration
from accounts.models import User
from aimodels.models import AIModel
from asynccoder.lib.errors import AppError
from asynccoder.settings import own_secret
from repositories import connect
from repositories.models import Repository
from tasks import lifecycle
from tasks.models import Status, Task, TaskType
from tasks.sample.install import install_sample

EMAIL, USERNAME = "demo@example.com", "demo"
PROMPT = "The checks of this repository fail. Find out why and mend what can be mended safely."
POLL_SECONDS = 0.2


class Command(BaseCommand):
    help = "Make the demo account, the sample repository and a task, and wait for the task's end."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=int, default=600, help="How long to wait.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do each step once per instance; a second call shows what the first one left."""
        password = own_secret("DEMO_PASSWORD", length=12)
        try:
            user = find_user(password)
            task = find_task(user) or make_task(user)
        except AppError as error:
            raise CommandError(error.message) from error
        if not task.is_finished:
            self.stdout.write(f"Running a task on the sample repository: {task.title}")
            self.follow(task, seconds=options["seconds"])
        self.show(task, password)
        if task.status != Status.COMPLETED:
            sys.exit(1)

    def follow(self, task: Task, *, seconds: float) -> None:
        """Print each new step of the task until it ends."""
        shown, end = (-1, ""), time.monotonic() + seconds
        while not task.is_finished:
            if time.monotonic() > end:
                raise CommandError(f"the task has not ended within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
            task.refresh_from_db()
            now = (task.progress, task.current_step)
            if now != shown and task.current_step:
                self.stdout.write(f"  {task.progress:>3} %  {task.current_step}")
            shown = now

    def show(self, task: Task, password: str) -> None:
        address = settings.PUBLIC_URL + reverse("tasks:detail", args=[task.pk])
        self.stdout.write("")
        self.stdout.write(f"  Task          {task.status}: {outcome(task)}")
        self.stdout.write(f"  Its page      {address}")
        self.stdout.write(f"  Sign in as    {EMAIL}, password {password}")


def find_user(password: str) -> User:
    """Return the demo user; it is registered like anybody once, with the kept password."""
    user = User.objects.filter(email=EMAIL).first()
    return user or registration.register(email=EMAIL, username=USERNAME, password=password)


def find_task(user: User) -> Task | None:
    """Return a task of an earlier call that has completed or still runs."""
    tried = Task.objects.filter(owner=user, type=TaskType.DEBUG, prompt=PROMPT)
    found: Task | None = (
        tried.filter(status=Status.COMPLETED).first()
        or tried.filter(status__in=[Status.PENDING, Status.RUNNING]).first()
    )
    return found


def make_task(user: User) -> Task:
    model = AIModel.objects.active().filter(provider="builtin").first()
    request = lifecycle.TaskRequest(
        type=TaskType.DEBUG, prompt=PROMPT, repository=find_repository(user), model=model
    )
    return lifecycle.create_task(owner=user, request=request)[0]


def find_repository(user: User) -> Repository:
    """Return the sample repository, connected by its path as an operator may."""
    path = install_sample(settings.VAR_DIR / "samples")
    found: Repository | None = Repository.objects.filter(
        owner=user, url=str(path), is_active=True
    ).first()
    return found or connect.connect_repository(owner=user, url=str(path), is_operator=True)


def outcome(task: Task) -> str:
    if task.error_message:
        return task.error_message
    result = getattr(task, "result", None)
    return result.summary.splitlines()[0] if result and result.summary else task.outcome
