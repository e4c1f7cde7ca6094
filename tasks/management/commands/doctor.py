"""Look at everything that an instance needs, and say what is wrong in one line each."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from asynccoder.doctor import (
    broker,
    clock,
    configuration,
    database,
    machine,
    sandboxes,
    storage,
    workers,
)
from asynccoder.doctor.findings import Check, Finding, Verdict, examine


class Command(BaseCommand):
    help = (
        "Check a deployment: machine, folders, database, Redis, clock, settings, sandbox, workers."
        " Exit status 1: something FAILED. Warnings alone leave it at 0."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-attacks", action="store_true", help="Only start a sandbox.")
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run every check, also after one has failed."""
        sandbox = sandboxes.check_start if options["no_attacks"] else sandboxes.check_attacks
        checks: dict[str, Check] = {
            "python": machine.check_python,
            "git": machine.check_git,
            "programs": machine.check_programs,
            "VAR_DIR": machine.check_var_dir,
            "disk": machine.check_disk,
            "storage": storage.check_storage,
            "settings": configuration.check_settings,
            "database": database.check_database,
            "redis": broker.check_redis,
            "cache": broker.check_cache,
            "clock": clock.check_clock,
            "models": configuration.check_models,
            "sandbox": sandbox,
            "workers": workers.check_workers,
        }
        found = {name: self._examine(name, check, options) for name, check in checks.items()}
        has_failed = any(
            finding.verdict == Verdict.FAILED for findings in found.values() for finding in findings
        )
        if options["json"]:
            listed = [
                {"check": name, **asdict(finding)}
                for name, findings in found.items()
                for finding in findings
            ]
            self.stdout.write(json.dumps({"ok": not has_failed, "findings": listed}, indent=2))
        if has_failed:
            sys.exit(1)

    def _examine(self, name: str, check: Check, options: dict[str, Any]) -> list[Finding]:
        found = examine(check)
        if not options["json"]:
            for finding in found:
                self.stdout.write(f"{name:<9} {finding.verdict:<8} {finding.message}")
        return found
