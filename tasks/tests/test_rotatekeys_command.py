"""``manage.py rotatekeys``: after it the old encryption key is needed by nothing."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from accounts import github
from accounts.models import GithubAccount, User
from aimodels import keys
from aimodels.models import ProviderConfig, ProviderKey
from asynccoder.lib import fields
from asynccoder.tests.processes import ROOT, StartProcess, wait_for
from conftest import make_user
from repositories import connect, git
from repositories.models import Repository
from tasks.tests.make import make_repository

NEW = "new:abcdefghijklmnopqrstuvwxyz"
KEY, TOKEN = "sk-0123456789-WXYZ", "gho_a-long-token"
MANY = 400


def make_key(owner: User) -> None:
    keys.add(user=owner, provider="openai", plain=KEY)


def make_config(owner: User) -> None:
    keys.configure(ProviderConfig(provider="openai"), plain=KEY)


def make_credential(owner: User) -> None:
    name = f"{owner}-{uuid.uuid4()}"
    repository = make_repository(owner=owner, full_name=name, url=f"https://example.org/{name}")
    connect._seal(repository, git.Credential("bot", TOKEN))
    repository.save()


def make_account(owner: User) -> None:
    number = 1 + GithubAccount.objects.count()
    GithubAccount.objects.create(
        user=make_user(f"octo-{number}"), github_id=number, connected_at=timezone.now()
    )
    account = GithubAccount.objects.get(github_id=number)
    account.sealed_token = fields.seal(TOKEN, context=github._context(account.user, number))
    account.save()


SEALED: dict[tuple[type[Any], str], tuple[Callable[[User], None], Callable[[Any], object]]] = {
    (ProviderKey, "sealed_key"): (make_key, lambda row: keys.reveal(row).reveal() == KEY),
    (ProviderConfig, "sealed_key"): (
        make_config, lambda row: keys.reveal_config(row).reveal() == KEY
    ),
    (Repository, "sealed_credential"): (
        make_credential, lambda row: connect.credential_of(row) == git.Credential("bot", TOKEN)
    ),
    (GithubAccount, "sealed_token"): (
        make_account, lambda row: github.token_of(row).reveal() == TOKEN
    ),
}  # fmt: skip
"""Every column of sealed texts: how a row comes to be, and whether it opens to what was sealed."""
SEALERS = {"accounts/github.py", "aimodels/keys.py", "repositories/connect.py"}
"""Who seals; whoever comes new must have a column above."""


def test_every_column_that_is_sealed_is_known_here() -> None:
    found = {
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if field.name.startswith("sealed_")
    }
    assert found == set(SEALED)
    sources = [path for app in apps.get_app_configs() for path in Path(app.path).rglob("*.py")]
    sealing = {
        str(path.relative_to(ROOT))
        for path in sources
        if path.is_relative_to(ROOT) and ".venv" not in path.parts and "tests" not in path.parts
        if re.search(r"\bfields\.seal\(|import .*\bseal\b", path.read_text())
    }
    assert sealing == SEALERS


def left_under(name: str) -> int:
    """Count the texts of this key in every sealed column."""
    return sum(
        model.objects.filter(**{f"{column}__startswith": f"v1:{name}:"}).count()
        for model, column in SEALED
    )


@pytest.mark.django_db
@pytest.mark.parametrize(("model", "column"), SEALED)
def test_every_sealed_column_opens_without_the_old_key(
    alice: User, settings: Any, model: type[Any], column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = list(settings.FIELD_ENCRYPTION_KEYS)
    make, opens = SEALED[model, column]
    make(alice)
    settings.FIELD_ENCRYPTION_KEYS = [NEW, *old]
    call_command("rotatekeys")
    assert capsys.readouterr().out == "1 secrets sealed anew.\n"
    settings.FIELD_ENCRYPTION_KEYS = [NEW]
    assert opens(model.objects.get())
    call_command("rotatekeys")
    assert capsys.readouterr().out == "0 secrets sealed anew.\n"


@pytest.mark.django_db
def test_what_does_not_open_is_named_and_the_rest_is_sealed_anew(
    alice: User, settings: Any
) -> None:
    for make, _ in SEALED.values():
        make(alice)
    broken = ProviderKey.objects.get()
    ProviderKey.objects.update(sealed_key=broken.sealed_key[:-4] + "AAAA")
    settings.FIELD_ENCRYPTION_KEYS = [NEW, *settings.FIELD_ENCRYPTION_KEYS]
    with pytest.raises(CommandError, match=f"aimodels.ProviderKey {broken.pk}") as refused:
        call_command("rotatekeys")
    assert KEY not in str(refused.value)
    assert (left_under("test"), left_under("new")) == (1, len(SEALED) - 1)


@contextmanager
def readers() -> Iterator[list[int]]:
    """Read and open every row of every column for as long as the block lasts, in threads."""
    done, rounds = threading.Event(), [0] * len(SEALED)

    def read(number: int, model: type[Any], opens: Callable[[Any], object]) -> None:
        try:
            while not done.is_set():
                assert all(opens(row) for row in model.objects.all())
                rounds[number] += 1
        finally:
            connection.close()

    with ThreadPoolExecutor(len(SEALED)) as pool:
        reading = [
            pool.submit(read, number, model, opens)
            for number, ((model, _), (_, opens)) in enumerate(SEALED.items())
        ]
        try:
            yield rounds
        finally:
            done.set()
        for one in reading:
            one.result(60)


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_nobody_who_reads_meanwhile_fails_also_when_it_is_killed_and_run_again(
    alice: User, settings: Any, start_process: StartProcess
) -> None:
    """Threads open everything without a pause; the first run of the command is killed midway."""
    for make, _ in SEALED.values():
        make(alice)
    for _ in range(MANY):
        make_key(alice)
    old = list(settings.FIELD_ENCRYPTION_KEYS)
    total = left_under("test")
    settings.FIELD_ENCRYPTION_KEYS = [NEW, *old]
    environment = {"FIELD_ENCRYPTION_KEYS": ",".join([NEW, *old])}
    with readers() as rounds:
        first = start_process("manage.py", "rotatekeys", **environment)
        wait_for(lambda: left_under("new") or first.popen.poll() is not None, seconds=60)
        first.kill()
        first.popen.wait(60)
        moved = left_under("new")
        assert 0 < moved < total, first.output()
        # A row that is replaced between the runs stays replaced.
        keys.replace(ProviderKey.objects.order_by("-pk")[0], plain=KEY)
        second = start_process("manage.py", "rotatekeys", **environment)
        assert second.popen.wait(90) == 0, second.output()
        since = list(rounds)
        wait_for(lambda: all(now > then for now, then in zip(rounds, since, strict=True)))
    assert (left_under("test"), left_under("new")) == (0, total)
    settings.FIELD_ENCRYPTION_KEYS = [NEW]
    assert all(
        opens(row) for (model, _), (_, opens) in SEALED.items() for row in model.objects.all()
    )
