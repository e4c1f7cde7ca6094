"""Who uses the platform: users, their keys and tokens, and the feed of what concerns them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth import models as auth
from django.contrib.auth.models import AbstractUser
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.crypto import salted_hmac

from asynccoder.lib import upcalls


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    USER = "user", "User"
    ADMIN = "admin", "Administrator"


READING = ("build:read", "analysis:read", "task:read")
WORKING = (
    "build:create",
    "build:cancel",
    "analysis:create",
    "analysis:cancel",
    "task:create",
    "task:cancel",
)
PERMISSIONS: dict[str, tuple[str, ...]] = {
    Role.VIEWER: READING,
    Role.USER: (*READING, *WORKING),
    Role.ADMIN: (*READING, *WORKING),
}


class UserManager(auth.UserManager["User"]):
    use_in_migrations = False

    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **values: Any
    ) -> User:
        """Create an account with the role ``admin`` that opens the Django admin, and greet it."""
        values.setdefault("role", Role.ADMIN)
        with transaction.atomic():
            user = super().create_superuser(username, email, password, **values)
            upcalls.call("account_created", user)
        return user

    def named(self, identity: str) -> User | None:
        """Return the account of an e-mail address or, if there is none, of a user name."""
        for field in ("email__iexact", "username__iexact"):
            user = self.filter(**{field: identity}).first()
            if user is not None:
                return user
        return None


class User(AbstractUser):
    """An account. The role decides what it may do; ``is_staff`` opens the Django admin."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(unique=True)
    display_name = models.CharField(max_length=150, blank=True)
    avatar_url = models.URLField(max_length=500, blank=True)
    role = models.CharField(max_length=10, choices=Role, default=Role.USER)
    plan = models.CharField(max_length=40, default="free", help_text="Slug of the plan in billing.")
    theme = models.CharField(
        max_length=5, blank=True, choices=[("light", "Light"), ("dark", "Dark")]
    )
    token_version = models.PositiveIntegerField(
        default=0, help_text="Raised to end every token of the account."
    )
    event_sequence = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Sequence number of the newest event of the feed."
    )
    running_tasks = models.PositiveIntegerField(
        default=0, editable=False, help_text="Tasks that hold a lease now."
    )
    concurrent_tasks = models.PositiveIntegerField(
        default=2, help_text="How many tasks may run at once (set by the plan)."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[UserManager] = UserManager()
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]

    class Meta(AbstractUser.Meta):
        abstract = False
        constraints = [
            models.UniqueConstraint(Lower("email"), name="user_email_unique_in_any_case"),
            models.UniqueConstraint(Lower("username"), name="user_username_unique_in_any_case"),
        ]

    def __str__(self) -> str:
        return self.username

    @property
    def name(self) -> str:
        return self.display_name or self.username

    @property
    def is_admin(self) -> bool:
        """Tell whether the account sees and manages everyone's objects."""
        return self.is_active and (self.role == Role.ADMIN or self.is_superuser)

    @property
    def can_work(self) -> bool:
        """Tell whether the account may create and cancel (a viewer only reads)."""
        return self.is_active and (self.role != Role.VIEWER or self.is_superuser)

    @property
    def permissions(self) -> list[str]:
        """Return what the role may do, as seed 2 names it; it informs, the row decides."""
        return list(PERMISSIONS[Role.ADMIN if self.is_superuser else self.role])

    def token_mark(self) -> str:
        """Return the mark that tokens carry: another after a new password or a raised version."""
        value = f"{self.token_version}:{self.password}"
        return salted_hmac("accounts.token_mark", value, algorithm="sha256").hexdigest()[:24]


class FeedEvent(models.Model):
    """One event of a user's feed (``/ws``); ``sequence`` has no gaps within a user."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="feed_events")
    sequence = models.PositiveBigIntegerField()
    event = models.CharField(max_length=60, help_text="Such as task:status_updated.")
    data: models.JSONField[Any, Any] = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["user", "sequence"]
        constraints = [
            models.UniqueConstraint(fields=["user", "sequence"], name="feed_sequence_unique")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}:{self.sequence} {self.event}"


class TokenFamily(models.Model):
    """One sign-in: the chain of refresh tokens that began with it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="token_families")
    session_key = models.CharField(
        max_length=40, blank=True, editable=False, help_text="The session that began with it."
    )
    user_agent = models.CharField(max_length=300, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "token families"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.user_id} since {self.created_at:%Y-%m-%d %H:%M}"


class RefreshToken(models.Model):
    """A refresh token, known by its ``jti`` only; used once, by a conditional UPDATE."""

    jti = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    family = models.ForeignKey(TokenFamily, on_delete=models.CASCADE, related_name="tokens")
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="successors"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return str(self.jti)


class ExternalIdentity(models.Model):
    """Who an account is elsewhere: the subject at an issuer, such as a user at Clerk."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="external_identities")
    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "external identities"
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="external_identity_unique")
        ]

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"


class AccessKeyQuerySet(models.QuerySet["AccessKey"]):
    def visible_to(self, user: User | auth.AnonymousUser) -> AccessKeyQuerySet:
        """Return the user's own keys: nobody manages another's."""
        return self.filter(user=user) if user.is_authenticated else self.none()

    def usable(self) -> AccessKeyQuerySet:
        """Return the keys that are neither revoked nor expired, of active accounts."""
        alive = Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
        return self.filter(alive, revoked_at__isnull=True, user__is_active=True)


class AccessKey(models.Model):
    """A platform API key (``X-API-Key``): shown once, kept as a hash."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="access_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the key.")
    scopes: models.JSONField[list[str], list[str]] = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = AccessKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def revoke(self, *, at: datetime) -> None:
        """End the key for ever; a key that is revoked already keeps its time."""
        AccessKey.objects.filter(pk=self.pk, revoked_at__isnull=True).update(revoked_at=at)
        self.refresh_from_db()


class GithubAccountQuerySet(models.QuerySet["GithubAccount"]):
    def usable(self) -> GithubAccountQuerySet:
        """Return those whose token GitHub has not refused."""
        return self.filter(refused_at__isnull=True)


class GithubAccount(models.Model):
    """A user's GitHub account. ``accounts.github`` alone writes it and opens its token."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="github_account")
    github_id = models.PositiveBigIntegerField(unique=True)
    login = models.CharField(max_length=100)
    name = models.CharField(max_length=255, blank=True)
    avatar_url = models.URLField(max_length=500, blank=True)
    scopes = models.CharField(max_length=200, blank=True, help_text="What the token may do.")
    sealed_token = models.TextField(editable=False)
    connected_at = models.DateTimeField()
    refused_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when GitHub takes the token no more."
    )

    objects: ClassVar[Any] = GithubAccountQuerySet.as_manager()

    class Meta:
        verbose_name = "GitHub account"

    def __str__(self) -> str:
        return self.login


class GithubState(models.Model):
    """A state that was issued to begin a connection, as a hash; used up by its deletion."""

    digest = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="github_states")
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = "GitHub state"

    def __str__(self) -> str:
        return f"{self.user_id} until {self.expires_at:%Y-%m-%d %H:%M}"
