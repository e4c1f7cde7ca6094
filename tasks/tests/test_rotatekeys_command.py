"""``manage.py rotatekeys``: after it the old encryption key is needed by nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts import github
from accounts.models import GithubAccount, User
from aimodels import keys
from asynccoder.lib import fields
from repositories import connect, git
from tasks.tests.make import make_repository


def test_everything_that_is_sealed_opens_without_the_old_key(
    alice: User, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    old = list(settings.FIELD_ENCRYPTION_KEYS)
    key = keys.add(user=alice, provider="openai", plain="sk-0123456789-WXYZ")
    repository = make_repository(owner=alice)
    context = f"repositories.Repository:{repository.pk}:{alice.pk}"
    repository.sealed_credential = fields.seal("bot:a-long-token", context=context)
    repository.save()
    sealed = fields.seal("gho_a-long-token", context=f"accounts.GithubAccount:7:{alice.pk}")
    account = GithubAccount.objects.create(
        user=alice, github_id=7, login="octo", sealed_token=sealed, connected_at=timezone.now()
    )
    settings.FIELD_ENCRYPTION_KEYS = ["new:abcdefghijklmnopqrstuvwxyz", *old]
    call_command("rotatekeys")
    assert "1 keys and 2 credentials" in capsys.readouterr().out
    settings.FIELD_ENCRYPTION_KEYS = ["new:abcdefghijklmnopqrstuvwxyz"]
    key.refresh_from_db()
    repository.refresh_from_db()
    account.refresh_from_db()
    assert github.token_of(account).reveal() == "gho_a-long-token"
    assert keys.reveal(key).reveal() == "sk-0123456789-WXYZ"
    assert connect.credential_of(repository) == git.Credential("bot", "a-long-token")


def test_what_is_under_the_newest_key_is_left_alone(
    alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.add(user=alice, provider="openai", plain="sk-0123456789-WXYZ")
    call_command("rotatekeys")
    assert "0 keys and 0 credentials" in capsys.readouterr().out
