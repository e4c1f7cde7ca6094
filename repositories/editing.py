"""What an owner may change about a connected repository: its commands and its network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.utils import timezone

from accounts.models import User
from asynccoder.lib import hosts
from asynccoder.lib.errors import NotAllowed
from repositories.errors import SettingRefused
from repositories.models import Repository

MOST_HOSTS = 50
MOST_CHECKS = 20
COMMAND_CHARACTERS = 1000


def may_edit(repository: Repository, user: User) -> bool:
    """Tell whether a user may change it: who may start tasks on it does not suffice."""
    return user.can_work and (user.is_admin or repository.owner_id == user.pk)


def edit_repository(
    repository: Repository,
    *,
    by: User,
    setup_command: str | None = None,
    check_commands: Sequence[str] | None = None,
    network_allow_list: Sequence[str] | None = None,
) -> Repository:
    """Change what is given, for the runs that start from now on.

    Raises NotAllowed, and SettingRefused whose details name the field.
    """
    if not may_edit(repository, by):
        raise NotAllowed("Only its owner may change a repository.")
    given = {
        "setup_command": setup_command,
        "check_commands": check_commands,
        "network_allow_list": network_allow_list,
    }
    changes = {name: RULES[name](value) for name, value in given.items() if value is not None}
    Repository.objects.filter(pk=repository.pk).update(**changes, updated_at=timezone.now())
    repository.refresh_from_db()
    return repository


def checked_command(text: str, *, field: str = "setup_command") -> str:
    """Return one line of shell. Raises SettingRefused."""
    line = text.strip()
    if not line.isprintable():
        raise SettingRefused("A command is one line of text.", details={"field": field})
    if len(line) > COMMAND_CHARACTERS:
        message = f"A command has at most {COMMAND_CHARACTERS} characters."
        raise SettingRefused(message, details={"field": field})
    return line


def checked_commands(lines: Sequence[str]) -> list[str]:
    """Return the commands that must pass, without empty ones. Raises SettingRefused."""
    field = "check_commands"
    commands = [checked_command(line, field=field) for line in _texts(lines, field)]
    commands = list(dict.fromkeys(command for command in commands if command))
    if len(commands) > MOST_CHECKS:
        message = f"A repository has at most {MOST_CHECKS} check commands."
        raise SettingRefused(message, details={"field": field})
    return commands


def checked_hosts(lines: Sequence[str]) -> list[str]:
    """Return the network list in its usual spelling. Raises SettingRefused."""
    field = "network_allow_list"
    try:
        entries = hosts.parse_list(line for line in _texts(lines, field) if line.strip())
    except ValueError as error:
        raise SettingRefused(str(error), details={"field": field}) from error
    if len(entries) > MOST_HOSTS:
        message = f"A network list has at most {MOST_HOSTS} hosts."
        raise SettingRefused(message, details={"field": field})
    return [str(entry) for entry in entries]


def _texts(lines: object, field: str) -> list[str]:
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        raise SettingRefused("Give a list of texts.", details={"field": field})
    return list(lines)


RULES: dict[str, Callable[[Any], Any]] = {
    "setup_command": checked_command,
    "check_commands": checked_commands,
    "network_allow_list": checked_hosts,
}
