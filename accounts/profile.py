"""Changes of one's own account."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from accounts.errors import AddressTaken
from accounts.models import User


def edit(
    user: User,
    *,
    display_name: str | None = None,
    avatar_url: str | None = None,
    email: str | None = None,
) -> User:
    """Change what is given, nothing else; raise AddressTaken for another account's address."""
    given = {"display_name": display_name, "avatar_url": avatar_url, "email": email}
    changes = {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        setattr(user, name, value)
    try:
        with transaction.atomic():
            user.save(update_fields=[*changes, "updated_at"])
    except IntegrityError:
        raise AddressTaken from None
    return user
