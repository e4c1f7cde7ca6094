from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User


def test_the_role_changes_by_address_in_any_case(
    alice: User, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("setrole", "ALICE@example.com", "viewer")
    alice.refresh_from_db()
    assert (alice.role, alice.can_work) == ("viewer", False)
    assert "viewer" in capsys.readouterr().out


def test_an_unknown_address_and_an_unknown_role_are_refused(alice: User) -> None:
    with pytest.raises(CommandError, match="no account"):
        call_command("setrole", "nobody@example.com", "viewer")
    with pytest.raises(CommandError, match="invalid choice"):
        call_command("setrole", "alice@example.com", "king")
    alice.refresh_from_db()
    assert alice.role == "user"
