"""Write docs/openapi.yaml."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from asynccoder.api import document


class Command(BaseCommand):
    help = "Write docs/openapi.yaml as the views and serializers are now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--print", action="store_true", help="print it instead")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["print"]:
            self.stdout.write(document.as_yaml().decode())
        else:
            document.FILE.write_bytes(document.as_yaml())
            self.stdout.write(f"Wrote {document.FILE}.")
