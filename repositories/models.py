"""Connected repositories and who may see them."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import User


class RepositoryQuerySet(models.QuerySet["Repository"]):
    def visible_to(self, user: User) -> RepositoryQuerySet:
        """Return what the user owns or was given access to; an administrator sees all."""
        if not user.is_authenticated:
            return self.none()
        if user.is_admin:
            return self
        return self.filter(Q(owner=user) | Q(access__user=user)).distinct()

    def active(self) -> RepositoryQuerySet:
        return self.filter(is_active=True)

    def connected(self) -> RepositoryQuerySet:
        """Return those that their owners' GitHub accounts reach now, as far as we know."""
        return self.filter(
            github_id__isnull=False,
            has_github_access=True,
            owner__github_account__isnull=False,
            owner__github_account__refused_at__isnull=True,
        )

    def unconnected(self) -> RepositoryQuerySet:
        return self.exclude(pk__in=Repository.objects.connected().values("pk"))

    def workable_by(self, user: User) -> RepositoryQuerySet:
        """Return the connected ones on which the user may start tasks now."""
        if not user.is_authenticated or not user.can_work:
            return self.none()
        if user.is_admin:
            return self.active()
        access = RepositoryAccess.objects.filter(user=user, level=RepositoryAccess.Level.WRITE)
        return self.active().filter(Q(owner=user) | Q(pk__in=access.values("repository")))

    def matching(self, text: str) -> RepositoryQuerySet:
        """Return those with the text in their name or description; all for no text."""
        text = text.strip()
        if not text:
            return self
        return self.filter(Q(full_name__icontains=text) | Q(description__icontains=text))


class Repository(models.Model):
    """A git repository that tasks may work on."""

    class Kind(models.TextChoices):
        GIT = "git", "Git over HTTPS"
        GITHUB = "github", "GitHub"
        LOCAL = "local", "A path on this server"
        HOSTED = "hosted", "Hosted by the platform"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="repositories"
    )
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.GIT)
    name = models.CharField(max_length=100)
    full_name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    url = models.CharField(
        max_length=500, blank=True, help_text="Where to fetch from; no credential."
    )
    web_url = models.URLField(max_length=500, blank=True)
    github_id = models.BigIntegerField(null=True, blank=True)
    has_github_access = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Whether GitHub showed it to the owner's account last time.",
    )
    is_private = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    default_branch = models.CharField(max_length=255, default="main")
    language = models.CharField(max_length=50, blank=True)
    sealed_credential = models.TextField(blank=True, editable=False)
    hosted_bundle = models.CharField(
        max_length=200,
        blank=True,
        db_default="",
        editable=False,
        help_text="Hosted: where its commits are kept.",
    )
    setup_command = models.CharField(max_length=1000, blank=True)
    check_commands: models.JSONField[list[str], list[str]] = models.JSONField(
        default=list, blank=True, help_text="Commands that must pass; detected when empty."
    )
    network_allow_list: models.JSONField[list[str], list[str]] = models.JSONField(
        default=list, blank=True, help_text="Hosts the sandbox may reach; none by default."
    )
    size_bytes = models.PositiveBigIntegerField(default=0, editable=False)
    synced_at = models.DateTimeField(null=True, blank=True, editable=False)
    sync_error = models.CharField(max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[Any] = RepositoryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "repositories"
        ordering = ["full_name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "full_name"],
                condition=Q(is_active=True),
                name="repository_name_unique_per_owner",
            ),
            models.UniqueConstraint(
                fields=["owner", "github_id"],
                condition=Q(is_active=True, github_id__isnull=False),
                name="repository_github_unique_per_owner",
            ),
        ]

    def __str__(self) -> str:
        return self.full_name

    @property
    def is_connected(self) -> bool:
        """Tell whether the owner's GitHub account reaches it now, as far as we know."""
        account = getattr(self.owner, "github_account", None)
        is_usable = account is not None and account.refused_at is None
        return is_usable and self.has_github_access and self.github_id is not None


class RepositoryAccess(models.Model):
    """S1's ``user_repository_access``: a right given to somebody who is not the owner."""

    class Level(models.TextChoices):
        READ = "read", "May look"
        WRITE = "write", "May start tasks"

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="access")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="repository_access"
    )
    level = models.CharField(max_length=5, choices=Level, default=Level.READ)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "repository access"
        constraints = [models.UniqueConstraint(fields=["repository", "user"], name="access_unique")]

    def __str__(self) -> str:
        return f"{self.user} {self.level} {self.repository}"


class RepositoryWebhook(models.Model):
    """S1's ``repository_webhooks``: one configured at GitHub, known by what it delivers."""

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="webhooks")
    hook_id = models.BigIntegerField(help_text="GitHub's id of the webhook.")
    events: models.JSONField[list[str], list[str]] = models.JSONField(
        default=list, help_text="What it sends, as its ping said."
    )
    is_active = models.BooleanField(default=True)
    last_delivery_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["repository", "hook_id"], name="webhook_unique")
        ]

    def __str__(self) -> str:
        return f"webhook {self.hook_id} of {self.repository}"


class WebhookDelivery(models.Model):
    """One delivery of GitHub's, stored once by its id; ``repositories.webhooks`` works on it."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    delivery = models.CharField(max_length=80, unique=True, help_text="X-GitHub-Delivery.")
    event = models.CharField(max_length=64)
    action = models.CharField(max_length=64, blank=True)
    github_id = models.BigIntegerField(null=True, blank=True, help_text="The repository's.")
    full_name = models.CharField(max_length=201, blank=True)
    hook_id = models.BigIntegerField(null=True, blank=True)
    data: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="What the work needs of the body; the rest is not kept."
    )
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    received_at = models.DateTimeField()
    run_after = models.DateTimeField(help_text="Not worked on before; whoever works moves it.")

    class Meta:
        verbose_name_plural = "webhook deliveries"
        ordering = ["-received_at"]
        indexes = [
            models.Index(fields=["run_after"], name="delivery_due", condition=Q(state="waiting")),
            models.Index(fields=["received_at"], name="delivery_age"),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.delivery}"


class PullRequest(models.Model):
    """S1's ``pull_requests``: one that the platform opened, as GitHub last described it.

    The task that it belongs to is that of its ``result``.
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        CLOSED = "closed", "Closed"
        MERGED = "merged", "Merged"

    repository = models.ForeignKey(
        Repository, on_delete=models.CASCADE, related_name="pull_requests"
    )
    number = models.PositiveIntegerField()
    url = models.URLField(max_length=500)
    title = models.CharField(max_length=300)
    state = models.CharField(max_length=6, choices=State, default=State.OPEN)
    head_branch = models.CharField(max_length=255)
    base_branch = models.CharField(max_length=255)
    described_at = models.DateTimeField(help_text="GitHub's time of what we know.")
    check_after = models.DateTimeField(
        db_default=Now(), help_text="While it is open: GitHub is not asked about it before."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["check_after"], name="pull_due", condition=Q(state="open"))]
        constraints = [
            models.UniqueConstraint(fields=["repository", "number"], name="pull_request_unique")
        ]

    def __str__(self) -> str:
        return f"{self.repository}#{self.number}"
