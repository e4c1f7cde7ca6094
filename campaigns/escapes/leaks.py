"""Looking for canaries in everything that a hostile run could have written them into."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import redis
from django.apps import apps
from django.conf import settings
from django.db import models

from accounts.models import User
from tasks.models import Analysis, Artifact, Check, Step, Task, TaskLog, TaskResult


def places(
    user: User, tasks: list[Task], *, bodies: list[Any], var: Path, logs: Path, bare: Path
) -> Iterator[tuple[str, bytes]]:
    """Yield each place's name and everything that is in it. ``user`` is the victim."""
    mine = {"task__in": tasks}
    journal = [Step.objects.filter(**mine), TaskLog.objects.filter(**mine)]
    handed = [model.objects.filter(**mine) for model in (TaskResult, Artifact, Check, Analysis)]
    yield "requests to the model", json.dumps(bodies).encode()
    yield "journal and events", _rows(*journal)
    yield "results and artifacts", _rows(*handed)
    yield "all other rows", b"".join(_foreign_rows(user))
    yield "logs of the workers", b"".join(path.read_bytes() for path in sorted(logs.glob("*.log")))
    stores = [var / "tasks" / str(task.pk) / "store.git" for task in tasks]
    yield "checkpoints", b"".join(_objects(store) for store in stores if store.exists())
    yield "pushed branches", _objects(bare)
    yield "Redis", _redis()


def _rows(*querysets: Iterable[models.Model]) -> bytes:
    return b"\n".join(_text(row) for rows in querysets for row in rows)


def _text(row: models.Model) -> bytes:
    values = [getattr(row, field.attname) for field in row._meta.concrete_fields]
    return b" ".join(
        bytes(value)
        if isinstance(value, (bytes, memoryview))
        else json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace")
        for value in values
    )


def _foreign_rows(user: User) -> Iterator[bytes]:
    """Yield every row of every table that does not belong to the user."""
    for model in apps.get_models():
        for row in model._default_manager.all():
            if not _belongs_to(row, user):
                yield _text(row)


def _belongs_to(row: models.Model, user: User) -> bool:
    near = [row, *(getattr(row, field.name) for field in row._meta.fields if field.is_relation)]
    found = {
        getattr(item, name, None)
        for item in near
        if item is not None
        for name in ("owner_id", "user_id", "pk")
    }
    return user.pk in found


def _objects(repository: Path) -> bytes:
    """Return the content of every object that a repository holds or borrows."""
    line = ["git", "--git-dir", str(repository), "-c", "safe.directory=*"]
    done = subprocess.run(
        [*line, "cat-file", "--batch", "--batch-all-objects"], capture_output=True, check=True
    )
    return done.stdout


def _redis() -> bytes:
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        found = client.scan_iter(f"*{settings.REDIS_PREFIX}*", count=1000)
        return b"".join(key + (client.dump(key) or b"") for key in found)
