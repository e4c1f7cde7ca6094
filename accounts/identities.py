"""Accounts behind foreign identities: found by issuer and subject, never by an e-mail address."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import clerk, registration
from accounts.clerk import Person
from accounts.errors import AddressTaken, BadCredentials, ClerkTaken, ConnectFirst
from accounts.models import ExternalIdentity, User

TRIES = 5


def account_of(person: Person) -> User:
    """Return the account of a proven person; the first sign-in opens one.

    1. Issuer and subject name the account. A verified address that another account has does not lead
       to that account, for nobody has verified it here, nor to a second one: its owner signs in to
       the first and connects.
    2. A new account and its identity are one transaction; of two first sign-ins one wins, the
       other finds what it made.

    Raise BadCredentials for an account that was switched off, ConnectFirst for a taken address.
    """
    known = _known(person)
    if known is not None:
        return known
    person = clerk.completed(person)
    for _ in range(TRIES):
        try:
            with transaction.atomic():
                user = registration.admit(
                    email=person.email, name=person.name, avatar_url=person.avatar_url
                )
                ExternalIdentity.objects.create(
                    user=user, issuer=person.issuer, subject=person.subject
                )
                return user
        except (IntegrityError, AddressTaken) as error:
            known = _known(person)
            if known is not None:
                return known
            if isinstance(error, AddressTaken):
                raise ConnectFirst from None
    raise BadCredentials


def connect(user: User, person: Person) -> None:
    """Let a proven person sign in to the account from now on. Raise ClerkTaken for another's."""
    identity, _ = ExternalIdentity.objects.get_or_create(
        issuer=person.issuer, subject=person.subject, defaults={"user": user}
    )
    if identity.user_id != user.pk:
        raise ClerkTaken


def _known(person: Person) -> User | None:
    rows = ExternalIdentity.objects.filter(issuer=person.issuer, subject=person.subject)
    identity = rows.select_related("user").first()
    if identity is None:
        return None
    if not identity.user.is_active:
        raise BadCredentials
    rows.update(last_used_at=timezone.now())
    return identity.user
