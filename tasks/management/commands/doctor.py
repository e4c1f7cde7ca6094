"""Look at everything that an instance needs, and say what is wrong in one line each."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import DatabaseError

from asynccoder.launcher import preflight
from asynccoder.launcher.preflight import NotReady
from tasks.sandbox import selftest
from tasks.sandbox.base import SandboxUnavailable
from tasks.sandbox.toolchain import Toolchain


class Command(BaseCommand):
    help = (
        "Check Python, git, folders, database, Redis and the sandbox. Exit status 1: not all well."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-attacks", action="store_true", help="Only start a sandbox.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run every check, also after one has failed."""
        sandbox = start_sandbox if options["no_attacks"] else attack_sandbox
        checks: dict[str, Callable[[], object]] = {
            "python": lambda: preflight.check_python(sys.version_info[:2]),
            "git": preflight.check_git,
            "VAR_DIR": lambda: preflight.check_var_dir(settings.VAR_DIR),
            "database": check_database,
            "redis": lambda: preflight.check_redis(settings.REDIS_URL),
            "sandbox": sandbox,
        }
        results = [self.report(name, check) for name, check in checks.items()]
        if not all(results):
            sys.exit(1)

    def report(self, name: str, check: Callable[[], object]) -> bool:
        try:
            check()
        except NotReady as reason:
            self.stdout.write(f"{name:<9} FAILED  {reason}")
            return False
        self.stdout.write(f"{name:<9} ok")
        return True


def check_database() -> None:
    try:
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise NotReady(f"the database does not answer ({type(error).__name__}).") from None
    if waiting:
        raise NotReady(f"{len(waiting)} migrations are not applied: run manage.py migrate.")


def start_sandbox() -> None:
    preflight.check_sandbox(settings.VAR_DIR)


def attack_sandbox() -> None:
    try:
        selftest.require(Toolchain.of_platform())
    except SandboxUnavailable as error:
        raise NotReady(f"{error}.") from None
