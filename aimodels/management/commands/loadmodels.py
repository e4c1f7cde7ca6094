"""``manage.py loadmodels``: the current models and prices of the dated table we install."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from aimodels import catalogue
from aimodels.prices import per_million


class Command(BaseCommand):
    help = "Create and reprice the platform's models from genai-prices."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--list", action="store_true", help="Only show what would be loaded.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list"]:
            for entry in catalogue.entries():
                self.stdout.write(_line(entry))
            return
        loaded = catalogue.load()
        self.stdout.write(f"{loaded.created} models created, {loaded.updated} repriced.")


def _line(entry: catalogue.Entry) -> str:
    paid = per_million(entry.prices["input_price"])
    given = per_million(entry.prices["output_price"])
    return (
        f"{entry.provider:<10} {entry.name:<24} {entry.context_window:>9,} tokens"
        f"  ${paid}/${given} per million, prices of {entry.priced_at}"
    )
