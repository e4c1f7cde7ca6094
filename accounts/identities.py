"""Accounts behind foreign identities: found by issuer and subject, never by an e-mail address."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import clerk, registration
from accounts.clerk import Person
from accounts.errors import BadCredentials
from accounts.models import ExternalIdentity, User

TRIES = 5


def account_of(person: Person) -> User:
    """Return the account of a proven person; the first sign-in opens one.

    1. Issuer and subject name the account. An address that another account has does not lead to
       that account, verified or not: nobody has verified it here.
    2. A new account and its identity are one transaction; of two first sign-ins one wins, the
       other finds what it made.

    Raise BadCredentials for an account that was switched off.
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
        except IntegrityError:
            known = _known(person)
            if known is not None:
                return known
    raise BadCredentials


def _known(person: Person) -> User | None:
    rows = ExternalIdentity.objects.filter(issuer=person.issuer, subject=person.subject)
    identity = rows.select_related("user").first()
    if identity is None:
        return None
    if not identity.user.is_active:
        raise BadCredentials
    rows.update(last_used_at=timezone.now())
    return identity.user
