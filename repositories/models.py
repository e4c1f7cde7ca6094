"""Connected repositories and who may see them."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

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
    is_private = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    default_branch = models.CharField(max_length=255, default="main")
    language = models.CharField(max_length=50, blank=True)
    sealed_credential = models.TextField(blank=True, editable=False)
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
            )
        ]

    def __str__(self) -> str:
        return self.full_name


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
