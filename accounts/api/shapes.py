"""What the routes of accounts answer with, for the OpenAPI document alone."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.api.serializers import AccessKeySerializer, UserSerializer
from accounts.models import AccessKey, User
from asynccoder.api.shapes import shape


class AccountSerializer(UserSerializer):
    """An account with its credits."""

    credits = serializers.FloatField()
    held_credits = serializers.FloatField()
    total_credits_used = serializers.FloatField()

    class Meta:
        model = User
        fields = [*UserSerializer.Meta.fields, "credits", "held_credits", "total_credits_used"]
        read_only_fields = fields


class NewAccessKeySerializer(AccessKeySerializer):
    """A key with its text, which is shown this once."""

    key = serializers.CharField(read_only=True)

    class Meta:
        model = AccessKey
        fields = [*AccessKeySerializer.Meta.fields, "key"]
        read_only_fields = AccessKeySerializer.Meta.read_only_fields


PAIR: dict[str, Any] = {
    "access_token": serializers.CharField(),
    "refresh_token": serializers.CharField(),
    "token_type": serializers.CharField(),
    "expires_in": serializers.IntegerField(help_text="Seconds."),
}
TOKENS = shape("Tokens", token=serializers.CharField(), **PAIR)
SIGNED_IN = shape(
    "SignedIn",
    **PAIR,
    user=AccountSerializer,
    token=serializers.CharField(required=False, help_text="After a sign-in with Clerk."),
    session_id=serializers.CharField(required=False, help_text="After a sign-in with Clerk."),
)
GITHUB_USER = shape(
    "GithubUser",
    id=serializers.IntegerField(),
    login=serializers.CharField(),
    name=serializers.CharField(),
    avatar_url=serializers.CharField(),
)
GITHUB_CONNECTED = shape(
    "GithubConnected", message=serializers.CharField(), github_user=GITHUB_USER
)
GITHUB_DISCONNECTED = shape(
    "GithubDisconnected", message=serializers.CharField(), is_revoked=serializers.BooleanField()
)
GITHUB_CONNECTION = shape(
    "GithubConnection",
    is_connected=serializers.BooleanField(),
    github_user=serializers.DictField(allow_null=True),
    authorize_url=serializers.CharField(),
    state=serializers.CharField(),
)
