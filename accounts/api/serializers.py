"""Shapes of accounts, credentials and access keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.validators import RegexValidator
from django.utils import timezone
from rest_framework import serializers

from accounts import github
from accounts.models import PERMISSIONS, AccessKey, Role, User
from accounts.registration import PASSWORD_MAX
from asynccoder.api.typed import Typed
from asynccoder.lib import upcalls


class UserSerializer(serializers.ModelSerializer[User]):
    """An account as its owner sees it; ``credits`` are what is left, in credits."""

    subscription_tier = serializers.CharField(source="plan")
    is_github_connected = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = [
            "id",
            "email",
            "username",
            "name",
            "display_name",
            "avatar_url",
            "role",
            "permissions",
            "subscription_tier",
            "is_github_connected",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    def get_is_github_connected(self, user: User) -> bool:
        return github.account_of(user) is not None

    def to_representation(self, user: User) -> dict[str, Any]:
        credit = upcalls.call("credits_of", user, default={"credits": 0, "total_credits_used": 0})
        return {**super().to_representation(user), **credit}


class RegistrationSerializer(Typed, serializers.Serializer[Any]):
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(max_length=PASSWORD_MAX, trim_whitespace=False)
    name = serializers.CharField(max_length=150, required=False, allow_blank=True)
    # No "@": a user name must never read like another account's address.
    username = serializers.CharField(
        max_length=150, required=False, validators=[RegexValidator(r"^[\w.+-]+\Z")]
    )


class LoginSerializer(Typed, serializers.Serializer[Any]):
    """An e-mail address or a user name, in either field, and the password."""

    email = serializers.CharField(max_length=254, required=False)
    username = serializers.CharField(max_length=254, required=False)
    password = serializers.CharField(max_length=PASSWORD_MAX, trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        identity = attrs.get("email") or attrs.get("username")
        if not identity:
            raise serializers.ValidationError({"email": ["Give an e-mail address or a user name."]})
        return {"identity": identity, "password": attrs["password"]}


class ClerkSerializer(Typed, serializers.Serializer[Any]):
    clerk_token = serializers.CharField(max_length=8192)


class RefreshSerializer(Typed, serializers.Serializer[Any]):
    refresh_token = serializers.CharField(max_length=4096)


class GithubCodeSerializer(Typed, serializers.Serializer[Any]):
    """What GitHub handed to the client; ``state`` only where the client got one from us."""

    code = serializers.CharField(max_length=200)
    state = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)


class ProfileSerializer(Typed, serializers.Serializer[Any]):
    """What an account may change of itself; ``name`` is another word for ``display_name``."""

    name = serializers.CharField(max_length=150, required=False, allow_blank=True)
    display_name = serializers.CharField(max_length=150, required=False, allow_blank=True)
    avatar_url = serializers.URLField(max_length=500, required=False, allow_blank=True)
    email = serializers.EmailField(max_length=254, required=False)

    def validate_avatar_url(self, value: str) -> str:
        if value and not value.lower().startswith(("https://", "http://")):
            raise serializers.ValidationError("Give an http or https address.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        name = attrs.pop("name", None)
        if name is not None:
            attrs.setdefault("display_name", name)
        return attrs


class AccessKeySerializer(Typed, serializers.ModelSerializer[AccessKey]):
    """A key as it is listed: its prefix, never its text."""

    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=PERMISSIONS[Role.USER]), required=False
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)

    class Meta:
        model = AccessKey
        fields = [
            "id",
            "name",
            "prefix",
            "scopes",
            "created_at",
            "expires_at",
            "last_used_at",
            "revoked_at",
        ]
        read_only_fields = ["id", "prefix", "created_at", "last_used_at", "revoked_at"]

    def validate_expires_at(self, value: datetime | None) -> datetime | None:
        if value is not None and value <= timezone.now():
            raise serializers.ValidationError("Give a time in the future.")
        return value
