"""The only functions that open an account from outside."""

from __future__ import annotations

import re
import secrets
import unicodedata

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator, validate_email
from django.db import IntegrityError, transaction

from accounts.errors import AddressTaken, NameTaken, WeakPassword
from accounts.models import User
from asynccoder.lib import storable, upcalls

TRIES = 5
PASSWORD_MAX = 1024
"""Characters of a password that are read: hashing more would be a way to keep us busy."""
NO_ADDRESS = "no-address.invalid"
"""A reserved domain (RFC 2606), under which nobody gets mail: accounts without an address."""


def register(*, email: str, password: str, name: str = "", username: str = "") -> User:
    """Open an account with the role ``user``, and let the upper layers greet it.

    Without a user name, one is made from the e-mail address. Raise AddressTaken, NameTaken or
    WeakPassword.
    """
    _check_password(password, User(username=username, email=email, display_name=name))
    return _open(email=email, password=password, username=username, display_name=name)


def admit(*, email: str, name: str = "", avatar_url: str = "") -> User:
    """Open an account without a password for somebody whom another service has proven.

    ``email`` is an address that the service has verified, or nothing: then the account is without
    one until its owner gives one. Raise AddressTaken.
    """
    shown = storable.text(name)[:150]
    values = {"display_name": shown, "avatar_url": _web_address(avatar_url)}
    if _is_address(email):
        return _open(email=email, password=None, **values)
    nowhere = f"{secrets.token_hex(16)}@{NO_ADDRESS}"
    return _open(email=nowhere, password=None, hint=shown or "user", **values)


def _open(
    *, email: str, password: str | None, username: str = "", hint: str = "", **values: str
) -> User:
    for _ in range(TRIES):
        chosen = username or _free_username(hint or email)
        try:
            with transaction.atomic():
                user = User.objects.create_user(chosen, email, password, **values)
                upcalls.call("account_created", user)
                return user
        except IntegrityError:
            # The database decides the race; only a name of our own making is tried again.
            if User.objects.filter(email__iexact=email).exists():
                raise AddressTaken from None
            if username:
                raise NameTaken from None
    raise NameTaken


def _is_address(email: str) -> bool:
    try:
        validate_email(email)
    except ValidationError:
        return False
    return len(email) <= 254


def _web_address(url: str) -> str:
    """Return the address of a picture if it is one that a profile takes, else nothing."""
    try:
        URLValidator(schemes=["http", "https"])(url)
    except ValidationError:
        return ""
    return url if len(url) <= 500 else ""


def _check_password(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise WeakPassword(" ".join(error.messages), details={"password": error.messages}) from None


def _free_username(hint: str) -> str:
    local = unicodedata.normalize("NFKD", hint.partition("@")[0]).encode("ascii", "ignore")
    stem = re.sub(r"[^a-z0-9._-]+", "-", local.decode().lower()).strip("-.")[:100] or "user"
    if not User.objects.filter(username__iexact=stem).exists():
        return stem
    return f"{stem}-{secrets.token_hex(3)}"
