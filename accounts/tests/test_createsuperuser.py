from __future__ import annotations

import pytest
from django.core.management import call_command
from django.test import Client

from accounts.models import User


@pytest.mark.django_db
def test_djangos_own_command_makes_an_administrator(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", "root@example.com")
    monkeypatch.setenv("DJANGO_SUPERUSER_USERNAME", "root")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery")
    call_command("createsuperuser", "--noinput")
    user = User.objects.get()
    assert (user.role, user.is_superuser, user.is_admin) == ("admin", True, True)
    body = {"email": "root@example.com", "password": "correct horse battery"}
    answer = client.post("/api/v1/auth/login", body, content_type="application/json").json()
    assert answer["user"]["role"] == "admin"
    assert answer["user"]["credits"] == 100
