"""Builders of rows: repositories as they stand after they were connected."""

from __future__ import annotations

from accounts.models import User
from repositories.models import Repository


def make_repository(owner: User, **values: object) -> Repository:
    values.setdefault("name", "app")
    values.setdefault("full_name", f"acme/{values['name']}")
    values.setdefault("url", "https://git.example.com/acme/app")
    made: Repository = Repository.objects.create(owner=owner, **values)
    return made
