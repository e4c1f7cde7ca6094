"""Shapes of repositories and what it takes to connect one."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from asynccoder.api.typed import Typed
from repositories.models import Repository


class RepositorySerializer(serializers.ModelSerializer[Repository]):
    """A repository; ``url`` is where people look at it, ``clone_url`` where it is fetched from."""

    url = serializers.SerializerMethodField()
    clone_url = serializers.CharField(source="url")
    has_credential = serializers.SerializerMethodField()
    bundle_url = serializers.SerializerMethodField()
    zip_url = serializers.SerializerMethodField()
    connected = serializers.BooleanField(source="is_connected")

    class Meta:
        model = Repository
        fields = [
            "id",
            "github_id",
            "name",
            "full_name",
            "description",
            "kind",
            "is_private",
            "default_branch",
            "language",
            "url",
            "clone_url",
            "has_credential",
            "bundle_url",
            "zip_url",
            "connected",
            "setup_command",
            "check_commands",
            "network_allow_list",
            "is_active",
            "size_bytes",
            "synced_at",
            "sync_error",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    def get_url(self, repository: Repository) -> str:
        return repository.web_url or repository.url

    def get_has_credential(self, repository: Repository) -> bool:
        return bool(repository.sealed_credential)

    def get_bundle_url(self, repository: Repository) -> str | None:
        return _download(repository, "bundle")

    def get_zip_url(self, repository: Repository) -> str | None:
        return _download(repository, "zip")


def _download(repository: Repository, kind: str) -> str | None:
    """Return where a repository that the platform hosts is fetched from, once there is something."""
    return f"/api/v1/repositories/{repository.pk}/{kind}" if repository.hosted_bundle else None


class ConnectSerializer(Typed, serializers.Serializer[Any]):
    """``username`` and ``token`` are the credential of a private repository; never returned."""

    url = serializers.CharField(max_length=500)
    name = serializers.CharField(max_length=100, required=False, default="", allow_blank=True)
    default_branch = serializers.CharField(
        max_length=255, required=False, default="", allow_blank=True
    )
    username = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)
    token = serializers.CharField(
        max_length=800, required=False, default="", allow_blank=True, write_only=True
    )


class SyncSerializer(Typed, serializers.Serializer[Any]):
    """With ``force`` what was disconnected here comes back, too."""

    force = serializers.BooleanField(required=False, default=False)


class ListFilter(serializers.Serializer[Any]):
    """What a list may be narrowed by; ``connected`` to what GitHub shows its owner now."""

    connected = serializers.BooleanField(required=False, allow_null=True, default=None)


class EditSerializer(Typed, serializers.Serializer[Any]):
    """What may be changed; a field that is left out stays as it is. PUT and PATCH alike."""

    setup_command = serializers.CharField(required=False, allow_blank=True, max_length=1000)
    check_commands = serializers.ListField(
        child=serializers.CharField(max_length=1000), required=False, max_length=20
    )
    network_allow_list = serializers.ListField(
        child=serializers.CharField(max_length=300),
        required=False,
        max_length=50,
        help_text="Hosts that the sandbox may reach: host, .suffix or host:port.",
    )
