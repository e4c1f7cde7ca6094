"""The only function that opens an account from outside."""

from __future__ import annotations

import re
import secrets
import unicodedata

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts.errors import AddressTaken, NameTaken, WeakPassword
from accounts.models import User
from asynccoder.lib import upcalls

TRIES = 5
PASSWORD_MAX = 1024
"""Characters of a password that are read: hashing more would be a way to keep us busy."""


def register(*, email: str, password: str, name: str = "", username: str = "") -> User:
    """Open an account with the role ``user``, and let the upper layers greet it.

    Without a user name, one is made from the e-mail address. Raise AddressTaken, NameTaken or
    WeakPassword.
    """
    _check_password(password, User(username=username, email=email, display_name=name))
    for _ in range(TRIES):
        chosen = username or _free_username(email)
        try:
            with transaction.atomic():
                user = User.objects.create_user(chosen, email, password, display_name=name)
                upcalls.call("account_created", user)
                return user
        except IntegrityError:
            # The database decides the race; only a name of our own making is tried again.
            if User.objects.filter(email__iexact=email).exists():
                raise AddressTaken from None
            if username:
                raise NameTaken from None
    raise NameTaken


def _check_password(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise WeakPassword(" ".join(error.messages), details={"password": error.messages}) from None


def _free_username(email: str) -> str:
    local = unicodedata.normalize("NFKD", email.partition("@")[0]).encode("ascii", "ignore")
    stem = re.sub(r"[^a-z0-9._-]+", "-", local.decode().lower()).strip("-.")[:100] or "user"
    if not User.objects.filter(username__iexact=stem).exists():
        return stem
    return f"{stem}-{secrets.token_hex(3)}"
