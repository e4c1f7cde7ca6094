"""The own GitHub account over the API: begin, connect by code, look, disconnect."""

from __future__ import annotations

from typing import Any, cast

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import github
from accounts.api.serializers import GithubCodeSerializer
from accounts.api.shapes import GITHUB_CONNECTED, GITHUB_CONNECTION, GITHUB_DISCONNECTED
from accounts.models import GithubAccount, User
from asynccoder.api.dialects import Foreign
from asynccoder.api.permissions import CanWork, NotByAccessKey


class WorkersOnly(CanWork):
    """Looking begins a connection here, so that a viewer may not even look."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(getattr(request.user, "can_work", False))


class Connect(APIView):
    """Exchange the code that GitHub gave the client."""

    permission_classes = (IsAuthenticated, WorkersOnly, NotByAccessKey)

    @extend_schema(request=GithubCodeSerializer, responses=GITHUB_CONNECTED)
    def post(self, request: Request) -> Response:
        body = GithubCodeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        account = github.connect(cast("User", request.user), **body.validated_data)
        message = "GitHub account connected successfully"
        return Response({"message": message, "github_user": _shown(account)})


class Connection(Connect):
    """Connect as well, or begin with a state of ours (GET), or disconnect (DELETE)."""

    @extend_schema(responses={200: GITHUB_CONNECTION})
    def get(self, request: Request) -> Response:
        user = cast("User", request.user)
        address, state = github.begin(user)
        account = github.account_of(user)
        return Response(
            {
                "is_connected": account is not None,
                "github_user": _shown(account) if account else None,
                "authorize_url": address,
                "state": state,
            }
        )

    @extend_schema(responses={200: GITHUB_DISCONNECTED})
    def delete(self, request: Request) -> Response:
        """Forget the account and its token; ``is_revoked`` says whether GitHub has confirmed it."""
        is_revoked = github.disconnect(cast("User", request.user))
        return Response(
            {"message": github.farewell(is_revoked=is_revoked), "is_revoked": is_revoked}
        )


def _shown(account: GithubAccount) -> Foreign:
    """Return the account under GitHub's own names."""
    values: dict[str, Any] = {"id": account.github_id, "login": account.login}
    return Foreign(values | {"name": account.name, "avatar_url": account.avatar_url})
